import Formats
import Foundation
import Kernels
import Model
import Synchronization
import TestSupport
import Testing

@testable import Train

/// Checkpoints that are written beside the steps.
@Suite struct CheckpointWritingTests {
  private static let settings: KeyValuePairs<String, JSONValue> = [
    "max_steps": 6, "batch_size": 2, "lora_r": 2, "checkpoint_steps": 1, "learning_rate": .number(0.01),
  ]

  private func bytes(_ folder: URL) throws -> Data {
    try Data(contentsOf: folder.appending(path: "adapter_model.safetensors"))
  }

  @Test func theyHoldWhatTheyWouldHold() throws {
    let setting = try TrainSetting()
    let examples = setting.rows([20, 30, 9, 14, 22])
    let hyperparameters = try TrainSetting.hyperparameters(Self.settings)
    let (plain, beside) = (try temporaryFolder(), try temporaryFolder())
    try setting.trainer(examples, hyperparameters, folder: plain).run()
    let counter = Counter()
    let base = try setting.trainer(examples, hyperparameters, folder: nil)
    let trainer = try Trainer(
      base: base.pass.base, compute: base.pass.compute, data: base.data, hyperparameters: hyperparameters,
      configuration: TrainerConfiguration(
        folder: beside, baseName: "tiny", willWrite: { Thread.sleep(forTimeInterval: 0.02) },
        onWritten: { counter.add() }))
    var checkpoints: [Int] = []
    var final: URL?
    var waits = 0
    while trainer.state == .running {
      for event in trainer.advance() {
        if case .checkpoint(let step, _) = event { checkpoints.append(step) }
        if case .finished(_, let folder) = event { final = folder }
      }
      waits += trainer.isWaiting ? 1 : 0
    }
    #expect(trainer.state == .finished && checkpoints == Array(1...6) && waits > 0)
    #expect(counter.value == 6)
    for step in 1...6 {
      #expect(
        try bytes(plain.appending(path: "checkpoint-\(step)")) == bytes(beside.appending(path: "checkpoint-\(step)")))
    }
    #expect(try final.map(bytes) == bytes(plain))
  }
}

private final class Counter: Sendable {
  private let count = Mutex(0)
  var value: Int { count.withLock { $0 } }
  func add() { count.withLock { $0 += 1 } }
}
