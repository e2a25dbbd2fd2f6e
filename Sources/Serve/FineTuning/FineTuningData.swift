import Tokenization
import Formats
import Foundation
import Kernels
import Model
import Train

/// A request for a fine-tuning job, with the wire's fields checked.
struct FineTuningRequest: Sendable, Equatable {
  /// The adapter that training continues from; `nil` for a new one on the base.
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
  /// What each checkpoint is asked.
  var samplePrompts: [String] = []
}

/// A job's own folder, `DATA/jobs/ID/`: its data, the adapter that it continues from, and its checkpoints. The job
/// needs nothing outside of it, so files and adapters may be deleted while it waits or runs.
struct FineTuningFolder: Sendable {
  let url: URL

  /// What the ids of jobs begin with.
  static let prefix = "ftjob-"

  var training: URL { url.appending(path: "training.jsonl") }
  var validation: URL { url.appending(path: "validation.jsonl") }
  var initial: URL { url.appending(path: "initial") }
  var run: URL { url.appending(path: "run") }

  var hasValidation: Bool { FileManager.default.fileExists(atPath: validation.path) }
  var hasInitial: Bool { FileManager.default.fileExists(atPath: initial.path) }

  /// Creates the folder, with hard links to the files, which never change.
  /// - Throws: `ModelError` naming what cannot be made
  func create(training: URL, validation: URL?, initial: URL?) throws {
    do {
      try FolderAccess.create(url)
      try Self.link(training, self.training)
      if let validation { try Self.link(validation, self.validation) }
      if let initial {
        try FolderAccess.create(self.initial)
        for name in AdapterContents.fileNames {
          try Self.link(initial.appending(path: name), self.initial.appending(path: name))
        }
        try FolderAccess.sync(self.initial)
      }
      try FolderAccess.sync(url)
      try FolderAccess.sync(url.deletingLastPathComponent())
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

/// Reads and checks a job's training data.
struct FineTuningData: Sendable {
  let base: Base
  let compute: Compute
  let tokenizer: Tokenizer
  let chat: Result<ChatFormat, ModelError>

  /// - Parameters:
  ///   - room: the maximum bytes of all rows; `nil` for no limit
  ///   - stop: raised when the data is not needed any more
  /// - Throws: `FineTuningError` with what is wrong with the lines
  func read(
    training: URL, validation: URL?, _ settings: Hyperparameters, room: Int? = nil, stop: StopFlag
  ) throws(FineTuningError) -> TrainingData {
    let rows = try rows(training, "training_file", settings, room, stop)
    var heldOut: JSONLRows.Reading?
    if let validation { heldOut = try self.rows(validation, "validation_file", settings, room, stop) }
    do {
      return try TrainingData(
        rows.examples, validation: heldOut?.examples, mappings: rows.mappings.union(heldOut?.mappings ?? []),
        hyperparameters: settings, model: base.config)
    } catch {
      throw FineTuningError(.invalid, "\(error)", param: "training_file", code: "invalid_training_file")
    }
  }

  private func rows(
    _ file: URL, _ param: String, _ settings: Hyperparameters, _ room: Int?, _ stop: StopFlag
  ) throws(FineTuningError) -> JSONLRows.Reading {
    let source = JSONLRows(
      file: file, name: param, tokenizer: tokenizer, endToken: base.config.eosTokens.first, chat: chat,
      method: settings.method, memoryLimit: room)
    do { return try source.read(shouldStop: { stop.isRaised }) } catch let problems as DataProblems {
      let names = problems.byName.map { "\($0.name) (\($0.count))" }.joined(separator: ", ")
      var error = FineTuningError(
        .invalid, "Invalid file format. \(names). \(problems)", param: param, code: "invalid_\(param)")
      error.problems = problems
      throw error
    } catch let error as DataFileError {
      throw FineTuningError(.invalid, "Invalid file format. \(error)", param: param, code: "invalid_\(param)")
    } catch let error as DataSizeError {
      throw FineTuningError(.tooLarge, "\(error)", param: param, code: "insufficient_memory")
    } catch is CancellationError {
      throw FineTuningError(.stopping, "the server is stopping, or the job was cancelled")
    } catch {
      throw FineTuningError(.storage, "\(error)")
    }
  }

  /// The bytes that a job may take in addition to the base; `nil` if neither the settings nor the system limit them.
  /// - Parameters:
  ///   - limit: the maximum by the settings
  ///   - freed: bytes that the running job will have freed when this job starts
  static func room(limit: Int?, freed: Int) -> Int? {
    [limit, MemoryBudget.available.map { $0 + freed }].compactMap(\.self).min()
  }

  /// The memory that a job will take.
  /// - Parameter initial: the adapter that training continues from
  func forecast(
    _ data: TrainingData, _ settings: Hyperparameters, initial: URL?
  ) throws(FineTuningError) -> MemoryForecast {
    do {
      return try MemoryForecast(
        base: base, hyperparameters: settings, data: data, initialAdapter: initial,
        packsGradients: compute.packsGradients)
    } catch {
      throw FineTuningError(.invalid, "\(error)", param: "hyperparameters", code: "invalid_value")
    }
  }

  /// Checks that a job fits into memory.
  /// - Parameters:
  ///   - initial: the adapter that training continues from
  ///   - limit: the maximum by the settings
  ///   - freed: bytes that the running job will have freed when this job starts
  /// - Throws: `FineTuningError` with the numbers if the job cannot fit
  func checkMemory(
    _ data: TrainingData, _ settings: Hyperparameters, initial: URL?, limit: Int?, freed: Int
  ) throws(FineTuningError) -> MemoryForecast {
    let forecast = try forecast(data, settings, initial: initial)
    guard let room = Self.room(limit: limit, freed: freed), forecast.extra > room else { return forecast }
    throw FineTuningError(
      .tooLarge,
      "The job would need \(Self.mebibytes(forecast.extra)) beside the model: \(Self.mebibytes(forecast.adapter)) for "
        + "the adapter with its gradients and moments, \(Self.mebibytes(forecast.activations)) for activations of "
        + "examples of up to \(data.longestExample) tokens, \(Self.mebibytes(forecast.data)) for the data. There are "
        + "\(Self.mebibytes(room)). A lower lora_r, fewer target_modules, a lower max_seq_length or fewer rows need less.",
      param: "hyperparameters", code: "insufficient_memory")
  }

  private static func mebibytes(_ bytes: Int) -> String { "\((bytes + 0xFFFFF) >> 20) MiB" }
}
