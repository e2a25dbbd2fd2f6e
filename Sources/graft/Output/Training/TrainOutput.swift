import Formats
import Foundation
import Model

/// The folder that `graft train` writes: the adapter, its checkpoints, the plot, and a record of the run's settings.
struct TrainOutput {
  let folder: URL

  private static let recordName = "graft-run.json"
  private static let recordLimit = 4 << 20
  private static let adapterNames = ["adapter_model.safetensors", "adapter_config.json", "loss.svg", recordName]

  /// Checks that a run may begin in the folder, or be resumed in it.
  /// - Throws: `ModelError` that says what to do instead
  func check(resume: Bool, overwrite: Bool) throws {
    if resume {
      let names = try FolderAccess.names(in: folder)
      guard !names.isEmpty else {
        let exists = FileManager.default.fileExists(atPath: folder.path)
        throw ModelError(
          folder.path,
          reason: "\(exists ? "is empty" : "does not exist"): there is no run to resume; without --resume one begins")
      }
      guard names.contains(Self.recordName) || names.contains(where: Self.isCheckpoint) else {
        throw ModelError(folder.path, reason: "has no run to resume: neither \(Self.recordName) nor a checkpoint")
      }
      // A resumed run without checkpoints would begin at the first step and replace the adapter.
      guard names.contains(where: Self.isCheckpoint) || !names.contains(Self.adapterNames[0]) else {
        throw ModelError(
          folder.path, reason: "has an adapter but no checkpoint to go on from; --overwrite trains another in its place"
        )
      }
    } else if overwrite {
      _ = try FolderAccess.names(in: folder)
    } else {
      try FolderAccess.checkIsEmpty(
        folder, advice: "--resume goes on with the run in it, --overwrite removes that and begins another")
    }
  }

  private static func isCheckpoint(_ name: String) -> Bool {
    name.wholeMatch(of: /checkpoint-[0-9]+/) != nil || name.wholeMatch(of: /\.checkpoint-[0-9]+\.partial/) != nil
  }

  /// Removes what an earlier run wrote, and nothing else. Its checkpoints are removed first, so that if this is
  /// interrupted, none of them can be taken for a part of the new run.
  /// - Throws: `ModelError` naming what cannot be removed
  func clear() throws {
    let names = try FolderAccess.names(in: folder)
    for name in names.filter(Self.isCheckpoint) + Self.adapterNames where names.contains(name) {
      let url = folder.appending(path: name)
      do { try FileManager.default.removeItem(at: url) } catch {
        throw ModelError(url.path, reason: "cannot be removed: \(error.localizedDescription)")
      }
    }
  }

  /// Whether a path is the folder or inside it.
  func contains(_ url: URL) -> Bool {
    let (inner, outer) = (url.resolvingSymlinksInPath().path, folder.resolvingSymlinksInPath().path)
    return inner == outer || inner.hasPrefix(outer + "/")
  }

  // MARK: the run's record

  /// The settings of a run, so that `--resume` needs none of them again.
  struct Record: Equatable {
    var model: String
    var data: String
    var validation: String?
    var chatTemplate: String
    var method: String
    var seed: Int
    var compute: String
    /// The data folder, where the prepared base is.
    var dataDir: String?
    /// The hyperparameters that were given.
    var hyperparameters: JSONObject
  }

  /// Writes the record into the folder, which is created if it is missing.
  /// - Throws: `ModelError` naming what cannot be written
  func write(_ record: Record) throws {
    do { try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true) } catch {
      throw ModelError(folder.path, reason: "cannot be created: \(error.localizedDescription)")
    }
    let json: JSONValue = [
      "model": .string(record.model), "data": .string(record.data),
      "validation": record.validation.map { .string($0) } ?? .null, "chat_template": .string(record.chatTemplate),
      "method": .string(record.method), "seed": .integer(record.seed), "compute": .string(record.compute),
      "data_dir": record.dataDir.map { .string($0) } ?? .null,
      "hyperparameters": .object(record.hyperparameters),
    ]
    try AtomicFile.write(json.encoded, to: folder.appending(path: Self.recordName))
  }

  /// - Returns: `nil` if the run was started by a version that wrote no record
  /// - Throws: `ModelError` if it cannot be read
  func record() throws -> Record? {
    let url = folder.appending(path: Self.recordName)
    guard FileManager.default.fileExists(atPath: url.path) else { return nil }
    guard let text = try? Data(contentsOf: url), text.count <= Self.recordLimit else {
      throw ModelError(url.path, reason: "cannot be read")
    }
    let fields = try JSONValue.parse(text, subject: url.path).object
    guard let fields, let model = fields["model"]?.string, let data = fields["data"]?.string,
      let chatTemplate = fields["chat_template"]?.string, let method = fields["method"]?.string,
      let seed = fields["seed"]?.integer, let compute = fields["compute"]?.string,
      let hyperparameters = fields["hyperparameters"]?.object
    else { throw ModelError(url.path, reason: "is no record of a run of graft train") }
    return Record(
      model: model, data: data, validation: fields["validation"]?.string, chatTemplate: chatTemplate, method: method,
      seed: seed, compute: compute, dataDir: fields["data_dir"]?.string, hyperparameters: hyperparameters)
  }
}
