import Formats
internal import Foundation
internal import GRDB
internal import Glibc
internal import Model

/// The database of a data folder, `graft.sqlite`: records of adapters, files, fine-tuning jobs,
/// batches and responses. It has one
/// connection. A transaction survives a power loss once `write` has returned (WAL, synchronous = FULL).
///
/// Each kind of record has a migration here that creates its tables, and an extension in its own file with its queries.
public final class MetadataDatabase: Sendable {
  private let queue: DatabaseQueue
  private let path: String

  /// The file's name in the data folder.
  public static let fileName = "graft.sqlite"

  /// Opens or creates the database, and migrates it to this build's tables.
  /// - Parameter unknown: what to do if the folder has contents without a record
  /// - Throws: `ModelError` naming the file if it is damaged or was written by a newer graft; `UnrecordedContentsError` if
  ///   the folder has contents that are not this database's
  public init(_ folder: DataFolder, unknown: UnknownContents = .refuse) throws {
    path = folder.url.appending(path: Self.fileName).path
    if unknown == .refuse { try Self.checkPresence(in: folder) }
    try Self.createFile(path)
    do {
      var configuration = Configuration()
      configuration.journalMode = .wal
      configuration.label = "metadata"
      queue = try DatabaseQueue(path: path, configuration: configuration)
      // For WAL, GRDB lowers the setting to NORMAL, with which a power loss may undo the last transactions.
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

  /// Creates the file if it is missing, readable by its owner alone. SQLite gives the files beside it the same
  /// permissions.
  private static func createFile(_ path: String) throws {
    let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw ModelError(path, reason: "cannot be opened: \(systemMessage(errno))") }
    close(descriptor)
  }

  /// Migrations are applied in order, each once. A released one is never changed.
  private static var migrator: DatabaseMigrator {
    var migrator = DatabaseMigrator()
    migrator.registerMigration("0001 adapters") { try AdapterTables.create($0) }
    migrator.registerMigration("0002 files and fine-tuning") { try FineTuningTables.create($0) }
    migrator.registerMigration("0003 the folder's identity") { try FolderIdentityTable.create($0) }
    migrator.registerMigration("0004 indexes for what is asked of all jobs and files") {
      try FineTuningTables.index($0)
    }
    migrator.registerMigration("0005 batches") { try BatchTables.create($0) }
    migrator.registerMigration("0006 responses") { try ResponseTables.create($0) }
    migrator.registerMigration("0007 items of responses") { try ResponseTables.createItems($0) }
    migrator.registerMigration("0008 size of responses") { try ResponseTables.createSize($0) }
    return migrator
  }

  /// Runs `body` in a transaction, which is on the disk when this returns. Not for the event loop.
  /// - Throws: `ModelError` for the database's errors, and `body`'s own errors
  func write<Value>(_ body: (Database) throws -> Value) throws -> Value {
    try translating { try queue.write(body) }
  }

  /// Runs `body` without changing anything. Not for the event loop.
  func read<Value>(_ body: (Database) throws -> Value) throws -> Value {
    try translating { try queue.read(body) }
  }

  private func translating<Value>(_ body: () throws -> Value) throws -> Value {
    do { return try body() } catch let error as DatabaseError {
      throw ModelError(path, reason: error.message ?? "\(error.resultCode)")
    }
  }
}

/// SQLite's version, as the library says.
public var sqliteVersion: String {
  let version = try? DatabaseQueue().read { try String.fetchOne($0, sql: "SELECT sqlite_version()") }
  return (version ?? nil) ?? "unknown"
}
