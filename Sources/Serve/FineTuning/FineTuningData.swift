import Foundation
import Model
import Train

/// What a job is made of, before it is one: the wire's fields, checked.
struct FineTuningRequest: Sendable, Equatable {
  /// The adapter that training goes on from; `nil` for a new one on the base.
  struct Initial: Sendable, Equatable {
    var reference: AdapterReference
    var param: String
  }

  var model: String
  var initial: Initial?
  var trainingFile: String
  var validationFile: String?
  var suffix: String?
  var seed: Int
  var method: Hyperparameters.Method
  var hyperparameters: JSONObject
  var metadata: JSONObject?
}

/// A job's own folder, `DATA/jobs/ID/`: its data, the adapter it goes on from, and its checkpoints, so that nothing it
/// needs can be taken away meanwhile.
struct FineTuningFolder: Sendable {
  let url: URL

  var training: URL { url.appending(path: "training.jsonl") }
  var validation: URL { url.appending(path: "validation.jsonl") }
  var initial: URL { url.appending(path: "initial") }
  var run: URL { url.appending(path: "run") }

  var hasValidation: Bool { FileManager.default.fileExists(atPath: validation.path) }
  var hasInitial: Bool { FileManager.default.fileExists(atPath: initial.path) }

  /// Makes the folder with links to the files, which never change.
  /// - Throws: `ModelError` naming what cannot be made
  func create(training: URL, validation: URL?, initial: URL?) throws {
    let files = FileManager.default
    do {
      try files.createDirectory(at: url, withIntermediateDirectories: true)
      try Self.link(training, self.training)
      if let validation { try Self.link(validation, self.validation) }
      if let initial {
        try files.createDirectory(at: self.initial, withIntermediateDirectories: true)
        for name in AdapterContents.fileNames {
          try Self.link(initial.appending(path: name), self.initial.appending(path: name))
        }
        try SyncedFolder.sync(self.initial)
      }
      try SyncedFolder.sync(url)
      try SyncedFolder.sync(url.deletingLastPathComponent())
    } catch {
      remove()
      throw error as? ModelError ?? ModelError(url.path, reason: error.localizedDescription)
    }
  }

  func remove() { try? FileManager.default.removeItem(at: url) }

  private static func link(_ source: URL, _ target: URL) throws {
    try FileManager.default.linkItem(at: source, to: target)
  }
}

/// Reads and checks what a job trains on.
struct FineTuningData: Sendable {
  let base: Base
  let tokenizer: Tokenizer
  let chat: Result<ChatFormat, ModelError>

  /// - Parameters:
  ///   - names: what errors call the files
  /// - Throws: `FineTuningError` with every line that is wrong
  func read(
    training: URL, validation: URL?, _ settings: Hyperparameters
  ) throws(FineTuningError) -> TrainingData {
    let examples = try rows(training, "training_file", settings)
    var heldOut: [TrainingExample]?
    if let validation { heldOut = try rows(validation, "validation_file", settings) }
    do {
      return try TrainingData(examples, validation: heldOut, hyperparameters: settings, model: base.config)
    } catch {
      throw FineTuningError(.invalid, "\(error)", param: "training_file", code: "invalid_training_file")
    }
  }

  private func rows(
    _ file: URL, _ param: String, _ settings: Hyperparameters
  ) throws(FineTuningError) -> [TrainingExample] {
    let source = JSONLRows(
      file: file, name: param, tokenizer: tokenizer, endToken: base.config.eosTokens.first, chat: chat,
      method: settings.method)
    do { return try source.examples() } catch let problems as DataProblems {
      let names = problems.byName.map { "\($0.name) (\($0.count))" }.joined(separator: ", ")
      throw FineTuningError(
        .invalid, "Invalid file format. \(names). \(problems)", param: param, code: "invalid_\(param)")
    } catch {
      throw FineTuningError(.storage, "\(error)")
    }
  }

  /// - Parameter freed: bytes that will be there when the job starts
  /// - Throws: `FineTuningError` with the numbers if the job cannot fit
  func checkMemory(
    _ data: TrainingData, _ settings: Hyperparameters, limit: Int?, freed: Int
  ) throws(FineTuningError) -> MemoryForecast {
    let forecast: MemoryForecast
    do {
      forecast = try MemoryForecast(base: base, hyperparameters: settings, longestExample: data.longestExample)
    } catch {
      throw FineTuningError(.invalid, "\(error)", param: "hyperparameters", code: "invalid_value")
    }
    let available = MemoryBudget.available.map { $0 + freed }
    guard let room = [limit, available].compactMap(\.self).min(), forecast.extra > room else { return forecast }
    throw FineTuningError(
      .tooLarge,
      "The job would need \(Self.mebibytes(forecast.extra)) beside the model: \(Self.mebibytes(forecast.adapter)) for "
        + "the adapter with its gradients and moments, \(Self.mebibytes(forecast.activations)) for activations of "
        + "examples of up to \(data.longestExample) tokens. There are \(Self.mebibytes(room)). A lower lora_r, fewer "
        + "target_modules or a lower max_seq_length need less.",
      param: "hyperparameters", code: "insufficient_memory")
  }

  private static func mebibytes(_ bytes: Int) -> String { "\((bytes + 0xFFFFF) >> 20) MiB" }
}

extension MemoryForecast {
  /// What comes on top of the base.
  var extra: Int { adapter + activations }
}
