import Formats
import Foundation
import Kernels
import Model
import TestSupport
import Testing

@testable import Train

@Suite struct ResumeTests {
  private static let settings: KeyValuePairs<String, JSONValue> = [
    "max_steps": 6, "batch_size": 2, "lora_r": 2, "lora_dropout": .number(0.1), "checkpoint_steps": 1,
    "learning_rate": .number(0.01),
    "validation_split": .number(0.3),
  ]

  private func files(_ folder: URL) throws -> [Data] {
    try ["adapter_model.safetensors", "adapter_config.json"].map { try Data(contentsOf: folder.appending(path: $0)) }
  }

  /// A run that is dropped in the middle of each step, and resumed, ends as one that is not.
  @Test(arguments: [Hyperparameters.Method.supervised, .dpo])
  func everyStep(method: Hyperparameters.Method) throws {
    let setting = try TrainSetting()
    var random = TinyRandom(seed: 1)
    let examples =
      method == .supervised
      ? setting.rows([20, 30, 9, 14, 22])
      : (0..<5).map { _ in
        TrainingExample.pair(
          chosen: TrainSetting.row(8, vocabulary: 90, &random), rejected: TrainSetting.row(11, vocabulary: 90, &random))
      }
    let hyperparameters = try TrainSetting.hyperparameters(Self.settings, method: method)
    let whole = try temporaryFolder()
    let trainer = try setting.trainer(examples, hyperparameters, folder: whole)
    let slices = TestSlices()
    try trainer.run(slices: slices)
    #expect(trainer.state == .finished)
    let broken = try temporaryFolder()
    var (restarts, losses) = (0, [Double]())
    while true {
      let trainer = try setting.trainer(examples, hyperparameters, folder: broken, resume: restarts > 0)
      trainer.run(slices: slices.count / 5 + 3 * restarts)
      losses = trainer.losses
      if trainer.state != .running { break }
      restarts += 1
      #expect(restarts < 60)
    }
    #expect(restarts >= 4)
    #expect(losses == trainer.losses && losses.count == 6)
    #expect(try files(broken) == files(whole))
    #expect(try files(broken.appending(path: "checkpoint-6")) == files(whole.appending(path: "checkpoint-6")))
  }

  @Test func savingInTheMiddleCompletesTheUpdate() throws {
    let setting = try TrainSetting()
    let examples = setting.rows([20, 30, 9, 14, 22])
    var json = Self.settings.map { (key: $0.key, value: $0.value) }
    json.removeAll { $0.key == "checkpoint_steps" }
    let hyperparameters = try Hyperparameters(json: JSONObject(keepingFirst: json + [("checkpoint_steps", 100)]))
    let whole = try setting.trainer(examples, hyperparameters)
    whole.run()
    let folder = try temporaryFolder()
    let trainer = try setting.trainer(examples, hyperparameters, folder: folder)
    #expect(try trainer.saveCheckpoint() == nil)
    let slices = TestSlices { $0.isInterruptible || trainer.step < 2 ? .goOn : .stop }
    #expect(throws: TrainingInterruption.self) { try trainer.run(slices: slices) }
    let saved = try trainer.saveCheckpoint()
    #expect(saved?.lastPathComponent == "checkpoint-3")
    let resumed = try setting.trainer(examples, hyperparameters, folder: folder, resume: true)
    #expect(resumed.step == 3)
    resumed.run()
    #expect(resumed.parameterBits == whole.parameterBits)
  }

  @Test func anotherRunsCheckpointIsRefused() throws {
    let setting = try TrainSetting()
    let folder = try temporaryFolder()
    let hyperparameters = try TrainSetting.hyperparameters(Self.settings)
    let trainer = try setting.trainer(setting.rows([20, 30, 9]), hyperparameters, folder: folder)
    trainer.run()
    var other = hyperparameters
    other.learningRate = 0.02
    #expect(throws: ModelError.self) {
      try setting.trainer(setting.rows([20, 30, 9]), other, folder: folder, resume: true)
    }
    #expect(throws: ModelError.self) {
      try setting.trainer(setting.rows([20, 30, 8]), hyperparameters, folder: folder, resume: true)
    }
    // Cut short, it is not taken for whole.
    let moments = folder.appending(path: "checkpoint-6/optimizer.safetensors")
    let bytes = try Data(contentsOf: moments)
    try bytes.dropLast(8).write(to: moments)
    #expect(throws: ModelError.self) {
      try setting.trainer(setting.rows([20, 30, 9]), hyperparameters, folder: folder, resume: true)
    }
  }

  @Test func onlyTheNewestCheckpointsKeepTheOptimiser() throws {
    let setting = try TrainSetting()
    let folder = try temporaryFolder()
    let trainer = try setting.trainer(
      setting.rows([20, 30, 9, 14, 22]), TrainSetting.hyperparameters(Self.settings), folder: folder)
    var seen: [TrainerEvent] = []
    trainer.run(onEvent: { seen.append($0) })
    let checkpoints = CheckpointFolder(root: folder)
    #expect(checkpoints.steps == Array(1...6))
    #expect(checkpoints.resumableSteps == [5, 6])
    for step in checkpoints.steps { _ = try Adapter(peft: checkpoints.location(step), base: setting.base, mode: .f32) }
    #expect(seen.count { if case .metrics = $0 { true } else { false } } == 6)
    #expect(seen.count { if case .validation = $0 { true } else { false } } == 6)
    #expect(seen.last == .finished(step: 6, folder: folder))
  }

  /// A step that is not finite is gone back from once, which leaves no trace; the second time it ends the run.
  @Test(arguments: [1, 2])
  func whatIsNotFiniteIsRolledBack(times: Int) throws {
    let setting = try TrainSetting()
    let hyperparameters = try TrainSetting.hyperparameters(Self.settings)
    let examples = setting.rows([20, 30, 9, 14, 22])
    let whole = try setting.trainer(examples, hyperparameters)
    whole.run()
    let folder = try temporaryFolder()
    let trainer = try setting.trainer(examples, hyperparameters, folder: folder)
    var seen: [TrainerEvent] = []
    var (left, isSpoilt) = (times, false)
    let slices = TestSlices { _ in
      // Between two steps, with all done that was due after the first.
      if trainer.step == 3, !trainer.isConclusionDue, left > 0, !isSpoilt {
        trainer.adapter.parameter(5)[0] = .nan
        left -= 1
        isSpoilt = true
      }
      return .goOn
    }
    try trainer.run(slices: slices) { event in
      if case .rolledBack = event { isSpoilt = false }
      seen.append(event)
    }
    let back = seen.compactMap { event -> [Int]? in
      if case .rolledBack(let from, let to, _) = event { [from, to] } else { nil }
    }
    #expect(back == [[4, 3]])
    if times == 1 {
      #expect(trainer.state == .finished)
      #expect(trainer.parameterBits == whole.parameterBits)
      #expect(trainer.losses == whole.losses)
    } else {
      guard case .failed(let reason) = trainer.state else {
        Issue.record("it did not fail")
        return
      }
      #expect(reason.contains("not finite") && reason.contains("step 4"))
      #expect(seen.last == .failed(reason: reason))
      #expect(!FileManager.default.fileExists(atPath: folder.appending(path: "adapter_model.safetensors").path))
      #expect(CheckpointFolder(root: folder).steps == [1, 2, 3])
    }
  }

  @Test func earlyStoppingKeepsTheBest() throws {
    let setting = try TrainSetting()
    let folder = try temporaryFolder()
    let trainer = try setting.trainer(
      setting.rows([20, 30]),
      TrainSetting.hyperparameters([
        "max_steps": 60, "learning_rate": .number(0.05), "scheduler": "constant", "checkpoint_steps": 1,
        "early_stopping_patience": 3,
      ]), folder: folder, validation: setting.rows([25], seed: 99))
    var stopped: (step: Int, best: Int)?
    trainer.run(onEvent: { if case .stoppedEarly(let step, let best) = $0 { stopped = (step, best) } })
    #expect(trainer.state == .finished)
    let (step, best) = try #require(stopped)
    #expect(step == best + 3)
    #expect(
      try Data(contentsOf: folder.appending(path: "adapter_model.safetensors"))
        == Data(contentsOf: folder.appending(path: "checkpoint-\(best)/adapter_model.safetensors")))
  }
}
