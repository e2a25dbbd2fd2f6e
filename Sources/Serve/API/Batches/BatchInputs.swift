import Foundation
import Formats
import Model

/// DATA/batches: a hard link to the input file of each batch that is not over, so that the file can be deleted meanwhile.
struct BatchInputs: Sendable {
  private let folder: URL
  private static let suffix = ".jsonl"

  /// Removes the links of batches that are over or were never recorded: a process can end between changing a batch's record
  /// and its link.
  /// - Throws: `ModelError` if the folder cannot be made or the database cannot be read
  init(_ dataFolder: DataFolder, _ database: MetadataDatabase) throws {
    folder = dataFolder.url.appending(path: "batches")
    try FolderAccess.create(folder)
    let unfinished = try database.unfinishedBatches()
    for name in (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    where name.hasPrefix(Batch.prefix) && name.hasSuffix(Self.suffix) {
      let id = String(name.dropLast(Self.suffix.count))
      if !unfinished.contains(id) { remove(id) }
    }
  }

  func url(of batch: String) -> URL { folder.appending(path: batch + Self.suffix) }

  /// Links a file as the input of a batch, and then has the batch recorded. If that fails, nothing is left.
  func link(_ file: URL, as batch: String, then record: () throws -> Void) throws {
    do {
      try FileManager.default.linkItem(at: file, to: url(of: batch))
      try FolderAccess.sync(folder)
      try record()
    } catch {
      remove(batch)
      throw error
    }
  }

  /// Removes the link of a batch that is over.
  func remove(_ batch: String) { try? FileManager.default.removeItem(at: url(of: batch)) }
}
