import Formats
import Foundation
import Kernels
import Model
import Synchronization
import TestSupport
import Testing

@testable import Train

/// Checkpoints of a run whose final adapter is one of them.
@Suite struct CheckpointTests {
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
      base: base.model.base, compute: base.model.compute, data: base.data, hyperparameters: hyperparameters,
      configuration: TrainerConfiguration(
        folder: beside, baseName: "tiny", finalAdapter: .checkpoint, willWrite: { counter.add() }))
    var checkpoints: [Int] = []
    var final: URL?
    trainer.run { event in
      if case .checkpoint(let step, _) = event {
        checkpoints.append(step)
        #expect(counter.value == step, "what was told before is written down")
      }
      if case .finished(_, let folder) = event { final = folder }
    }
    #expect(trainer.state == .finished && checkpoints == Array(1...6))
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
