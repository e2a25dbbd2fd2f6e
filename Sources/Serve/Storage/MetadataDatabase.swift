import Formats
internal import Foundation
internal import GRDB
internal import Glibc
internal import Model

/// `DATA/graft.sqlite`: what is known of adapters, and whatever else outlives the process. One connection; every
/// transaction that `write` returned from survives a power loss (WAL, synchronous = FULL).
///
/// What belongs together brings its tables as a migration here and its queries as an extension of its own.
public final class MetadataDatabase: Sendable {
  private let queue: DatabaseQueue
  private let path: String

  public static let fileName = "graft.sqlite"

  /// Opens or makes the database, and brings it up to this build's tables.
  /// - Parameter unknown: what is done where the folder holds contents and this is not the database that knows them
  /// - Throws: `ModelError` naming the file: if it is damaged, was written by a newer graft, or does not belong here
  public init(_ folder: DataFolder, unknown: UnknownContents = .refuse) throws {
    path = folder.url.appending(path: Self.fileName).path
    if unknown == .refuse { try Self.checkPresence(in: folder) }
    try Self.createFile(path)
    do {
      var configuration = Configuration()
      configuration.journalMode = .wal
      configuration.label = "metadata"
      queue = try DatabaseQueue(path: path, configuration: configuration)
      // GRDB lowers it to NORMAL for WAL, where a power loss may take the last transactions.
      try queue.inDatabase { try $0.execute(sql: "PRAGMA synchronous = FULL") }
      let migrator = Self.migrator
      guard try !queue.read({ try migrator.hasBeenSuperseded($0) }) else {
        throw ModelError(path, reason: "was written by a newer version of graft, which has to be used with it")
      }
      try migrator.migrate(queue)
    } catch let error as DatabaseError {
      throw ModelError(path, reason: "the database cannot be opened: \(error.message ?? "\(error.resultCode)")")
    }
    try join(folder, unknown)
  }

  /// Makes the file, if it is missing, for its owner alone. SQLite gives the files beside it the same rights.
  private static func createFile(_ path: String) throws {
    let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw ModelError(path, reason: "cannot be opened: \(systemMessage(errno))") }
    close(descriptor)
  }

  /// Applied in order, each once; never changed once released.
  private static var migrator: DatabaseMigrator {
    var migrator = DatabaseMigrator()
    migrator.registerMigration("0001 adapters") { try AdapterTables.create($0) }
    migrator.registerMigration("0002 files and fine-tuning") { try FineTuningTables.create($0) }
    migrator.registerMigration("0003 the folder's identity") { try FolderIdentityTable.create($0) }
    migrator.registerMigration("0004 indexes for what is asked of all jobs and files") {
      try FineTuningTables.index($0)
    }
    return migrator
  }

  /// Runs `body` in a transaction, which is on the disk when this returns. Blocks: not for the event loop.
  /// - Throws: `ModelError` for what the database refuses; `body`'s own errors as they are
  func write<Value>(_ body: (Database) throws -> Value) throws -> Value {
    try translating { try queue.write(body) }
  }

  func read<Value>(_ body: (Database) throws -> Value) throws -> Value {
    try translating { try queue.read(body) }
  }

  private func translating<Value>(_ body: () throws -> Value) throws -> Value {
    do { return try body() } catch let error as DatabaseError {
      throw ModelError(path, reason: error.message ?? "\(error.resultCode)")
    }
  }
}
