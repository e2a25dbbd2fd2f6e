public import Foundation
import Formats
internal import GRDB
import Model

/// A copy of a data folder that can be made while a server uses the folder, and that is checked when it is restored.
///
/// The database is copied first, by SQLite's own online backup. The contents that its records name were on the disk
/// before their records, and most of them never change, so they can be copied afterwards. If some were deleted
/// meanwhile, the copy is made again. Prepared bases are left out, since they are made again from the model.
public enum FolderBackup {
  /// What a backup has.
  public struct Summary: Sendable, Equatable {
    /// Files, the database among them.
    public var files: Int
    /// Bytes of all files.
    public var bytes: Int
    /// Contents that the records name and the data folder does not have, such as "adapter 01ab…".
    public var missing: [String] = []
  }

  static let manifestName = "backup.json"
  private static let folders = ["adapters", "files", "jobs", "batches"]
  private static let attempts = 5
  private static let formatVersion = 1

  // MARK: making

  /// Copies a data folder.
  /// - Parameters:
  ///   - source: the data folder, which a server may be using
  ///   - target: the folder to make
  /// - Throws: `ModelError` naming what cannot be read or written, or that `target` exists
  public static func make(of source: URL, at target: URL) throws -> Summary {
    guard FileManager.default.fileExists(atPath: source.appending(path: MetadataDatabase.fileName).path) else {
      throw ModelError(
        source.path, reason: "is no data folder: it has no \(MetadataDatabase.fileName); give --data-dir")
    }
    guard !FileManager.default.fileExists(atPath: target.path) else {
      throw ModelError(target.path, reason: "exists; name a new folder")
    }
    let partial = target.deletingLastPathComponent().appending(path: ".\(target.lastPathComponent).partial")
    defer { try? FileManager.default.removeItem(at: partial) }
    var missedBefore: Set<StoredContents> = []
    for _ in 1...attempts {
      try? FileManager.default.removeItem(at: partial)
      try FolderAccess.create(partial.deletingLastPathComponent())
      try FolderAccess.createPrivate(partial)
      let copy = try copyDatabase(of: source, to: partial)
      var files = FileCopies(from: source, to: partial)
      for name in folders { try files.copyFolder(name) }
      try files.copyFile("identity")
      // What is missing twice was not deleted during a copy: the folder itself has lost it.
      let missed = missing(copy, in: partial)
      if missed.isSubset(of: missedBefore) {
        try files.note(MetadataDatabase.fileName)
        try write(files.entries, to: partial)
        try rename(partial, to: target)
        return Summary(
          files: files.entries.count, bytes: files.entries.reduce(0) { $0 + $1.bytes },
          missing: missed.map { "\($0.kind) \($0.name)" }.sorted())
      }
      missedBefore = missed
    }
    throw ModelError(
      source.path, reason: "changes too fast: contents were deleted during each of \(attempts) copies; try again later")
  }

  /// Copies the database as it is at one moment.
  private static func copyDatabase(of source: URL, to target: URL) throws -> Set<StoredContents> {
    let path = source.appending(path: MetadataDatabase.fileName).path
    do {
      var configuration = Configuration()
      configuration.readonly = true
      configuration.busyMode = .timeout(30)
      let original = try DatabaseQueue(path: path, configuration: configuration)
      let copy = try DatabaseQueue(path: target.appending(path: MetadataDatabase.fileName).path)
      try original.backup(to: copy)
      // A file of its own, without a log beside it.
      try copy.inDatabase { try $0.execute(sql: "PRAGMA journal_mode = DELETE") }
      try check(copy, path)
      let contents = try copy.read { try MetadataDatabase.neededContents($0) }
      try copy.close()
      try original.close()
      return contents
    } catch let error as DatabaseError {
      throw ModelError(path, reason: "cannot be copied: \(error.message ?? "\(error.resultCode)")")
    }
  }

  private static func check(_ database: DatabaseQueue, _ path: String) throws {
    let verdict = try database.read { try String.fetchOne($0, sql: "PRAGMA integrity_check") }
    guard verdict == "ok" else { throw ModelError(path, reason: "is damaged: \(verdict ?? "no verdict")") }
  }

  /// Contents that the database names and the copy does not have.
  private static func missing(_ recorded: Set<StoredContents>, in folder: URL) -> Set<StoredContents> {
    recorded.filter { contents in
      let url = folder.appending(path: contents.kind.folder).appending(path: contents.name)
      return !FileManager.default.fileExists(atPath: url.path)
    }
  }

  private static func rename(_ partial: URL, to target: URL) throws {
    guard Foundation.rename(partial.path, target.path) == 0 else {
      throw ModelError(target.path, reason: "cannot be made: \(systemMessage(errno))")
    }
    try FolderAccess.sync(target.deletingLastPathComponent())
  }

  // MARK: restoring

  /// Makes a data folder of a backup, after every file was found to have the recorded SHA-256.
  /// - Parameter folder: missing or empty
  /// - Throws: `ModelError` naming the file that is damaged or missing; then no folder is made
  public static func restore(_ backup: URL, to folder: URL) throws -> Summary {
    try FolderAccess.checkIsEmpty(folder, advice: "move it away, or give another folder with --data-dir")
    let entries = try readManifest(backup)
    let partial = folder.deletingLastPathComponent().appending(path: ".\(folder.lastPathComponent).restoring")
    try? FileManager.default.removeItem(at: partial)
    defer { try? FileManager.default.removeItem(at: partial) }
    try FolderAccess.create(partial.deletingLastPathComponent())
    try FolderAccess.createPrivate(partial)
    var files = FileCopies(from: backup, to: partial)
    for entry in entries {
      guard try files.copyFile(entry.path), let copied = files.entries.last, copied == entry else {
        throw ModelError(
          backup.appending(path: entry.path).path, reason: "is missing or damaged; use another backup")
      }
    }
    do {
      let path = partial.appending(path: MetadataDatabase.fileName).path
      let database = try DatabaseQueue(path: path)
      try check(database, path)
      try database.close()
    } catch let error as DatabaseError {
      throw ModelError(backup.path, reason: "the database is damaged: \(error.message ?? "\(error.resultCode)")")
    }
    rmdir(folder.path)
    try rename(partial, to: folder)
    return Summary(files: entries.count, bytes: entries.reduce(0) { $0 + $1.bytes })
  }

  // MARK: the manifest

  private static func write(_ entries: [FileCopies.Entry], to folder: URL) throws {
    let files = entries.map { entry -> JSONValue in
      ["path": .string(entry.path), "bytes": .integer(entry.bytes), "sha256": .string(entry.sha256)]
    }
    let manifest: JSONValue = [
      "format": .integer(formatVersion), "graft": .string(graftVersion),
      "created_at": .integer(Int(Date().timeIntervalSince1970)), "files": .array(files),
    ]
    try AtomicFile.write(manifest.encoded, to: folder.appending(path: manifestName))
  }

  private static func readManifest(_ backup: URL) throws -> [FileCopies.Entry] {
    let url = backup.appending(path: manifestName)
    guard let text = try? Data(contentsOf: url) else {
      throw ModelError(backup.path, reason: "is no backup: it has no \(manifestName), which is written last")
    }
    let manifest = try JSONValue.parse(text, subject: url.path).object
    guard manifest?["format"]?.integer == formatVersion else {
      throw ModelError(url.path, reason: "was written by a newer version of graft, which has to restore it")
    }
    return try (manifest?["files"]?.array ?? []).map { value in
      guard let file = value.object, let path = file["path"]?.string, let bytes = file["bytes"]?.integer,
        let sha256 = file["sha256"]?.string, !path.hasPrefix("/"), !path.split(separator: "/").contains("..")
      else { throw ModelError(url.path, reason: "has an entry that is no file of a backup") }
      return FileCopies.Entry(path: path, bytes: bytes, sha256: sha256)
    }
  }
}
