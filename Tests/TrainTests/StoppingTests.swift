import Formats
import Foundation
import Kernels
import Model
import TestSupport
import Testing

@testable import Train

/// A run that is stopped, wherever that is, ends in the same bytes and tells the same as one that is not.
@Suite struct StoppingTests {
  /// A validation and a checkpoint after every second step, the last one uneven; the rate is so high that validation
  /// gets worse, and the run stops early.
  private static let settings: KeyValuePairs<String, JSONValue> = [
    "max_steps": 9, "batch_size": 2, "lora_r": 2, "lora_dropout": .number(0.1), "checkpoint_steps": 2,
    "learning_rate": .number(3), "scheduler": "constant", "early_stopping_patience": 2,
    "target_modules": ["q_proj", "down_proj"],
  ]

  private struct Run {
    let setting: TrainSetting
    let hyperparameters: Hyperparameters
    let data: TrainingData
    /// The server takes the adapter from a checkpoint.
    let finalAdapter: TrainerConfiguration.FinalAdapter

    func trainer(_ folder: URL, resume: Bool) throws -> Trainer {
      try Trainer(
        base: setting.base, compute: Compute(pool: ThreadPool(threads: 1), mode: .f32), data: data,
        hyperparameters: hyperparameters,
        configuration: TrainerConfiguration(
          folder: folder, baseName: "tiny", checkpointsKept: 1, finalAdapter: finalAdapter),
        resume: resume)
    }
  }

  private static func run(
    _ method: Hyperparameters.Method, _ finalAdapter: TrainerConfiguration.FinalAdapter
  ) throws -> Run {
    let setting = try TrainSetting(
      TinyShape(hidden: 24, intermediate: 32, heads: 3, keyValueHeads: 1, headSize: 8, vocabulary: 40))
    var random = TinyRandom(seed: 3)
    func examples(_ count: Int) -> [TrainingExample] {
      (0..<count).map { _ in
        func row(_ length: Int) -> TrainingRow { TrainSetting.row(length, vocabulary: 40, &random) }
        return method == .supervised ? .row(row(9)) : .pair(chosen: row(6), rejected: row(7))
      }
    }
    let hyperparameters = try TrainSetting.hyperparameters(settings, method: method)
    let data = try TrainingData(
      examples(5), validation: examples(2), hyperparameters: hyperparameters, model: setting.base.config)
    return Run(setting: setting, hyperparameters: hyperparameters, data: data, finalAdapter: finalAdapter)
  }

  /// Without the folder's place, which differs from run to run.
  private static func text(_ event: TrainerEvent) -> String {
    switch event {
    case .checkpoint(let step, let folder): "checkpoint \(step) in \(folder.lastPathComponent)"
    case .finished(let step, let folder):
      "finished \(step) in \(folder.map { $0.lastPathComponent.hasPrefix("checkpoint") ? $0.lastPathComponent : "" } ?? "-")"
    default: "\(event)"
    }
  }

  private static func bytes(_ trainer: Trainer, _ events: [TrainerEvent]) throws -> [Data] {
    guard case .finished(_, let folder?) = events.last else { return [] }
    return try ["adapter_model.safetensors", "adapter_config.json"].map {
      try Data(contentsOf: folder.appending(path: $0))
    }
  }

  /// - Parameter slices: how many are had before each stop; after the last one the run goes on to its end
  private func outcome(_ run: Run, stops slices: [Int]) throws -> (events: [TrainerEvent], bytes: [Data]) {
    let folder = try temporaryFolder()
    defer { try? FileManager.default.removeItem(at: folder) }
    var events: [TrainerEvent] = []
    for (index, count) in slices.enumerated() {
      let trainer = try run.trainer(folder, resume: index > 0)
      trainer.run(slices: count) { events.append($0) }
      if trainer.state != .running { return (events, try Self.bytes(trainer, events)) }
      try trainer.saveCheckpoint { events.append($0) }
    }
    let trainer = try run.trainer(folder, resume: !slices.isEmpty)
    trainer.run(onEvent: { events.append($0) })
    #expect(trainer.state == .finished)
    return (events, try Self.bytes(trainer, events))
  }

  @Test(
    arguments: [Hyperparameters.Method.supervised, .dpo], [TrainerConfiguration.FinalAdapter.runFolder, .checkpoint])
  func anywhere(method: Hyperparameters.Method, finalAdapter: TrainerConfiguration.FinalAdapter) throws {
    let run = try Self.run(method, finalAdapter)
    let (events, bytes) = try outcome(run, stops: [])
    let told = events.map(Self.text)
    #expect(events.contains { if case .stoppedEarly = $0 { true } else { false } }, "\(told)")
    #expect(events.count { if case .validation = $0 { true } else { false } } >= 2)
    #expect(bytes.count == 2)

    let counting = TestSlices()
    try run.trainer(try temporaryFolder(), resume: false).run(slices: counting)
    let count = counting.count
    // Every point of a supervised run; a pair's steps have more of the same slices.
    for stop in stride(from: 1, to: count, by: method == .dpo || finalAdapter == .checkpoint ? 7 : 1) {
      let stopped = try outcome(run, stops: [stop])
      #expect(stopped.events.map(Self.text) == told, "stopped after \(stop) of \(count) slices")
      #expect(stopped.bytes == bytes, "stopped after \(stop) of \(count) slices")
    }
    // Again and again, at ever other points: behind a stop that came before what was due, for one.
    for slices in [37, 61] {
      let stopped = try outcome(run, stops: Array(repeating: slices, count: 2 * count / slices))
      #expect(stopped.events.map(Self.text) == told && stopped.bytes == bytes, "stopped every \(slices) slices")
    }
  }
}
