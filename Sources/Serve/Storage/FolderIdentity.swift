import Formats
internal import Foundation
internal import GRDB
internal import Model

/// What a database does if it does not belong to its folder.
public enum UnknownContents: Sendable {
  /// Throws, so that nothing is served or written beside contents without records.
  case refuse
  /// Gives the database the folder's identity; contents without records stay as they are.
  case takeOver
  /// Does nothing, for commands that only read.
  case leave
}

/// The table with the identity of the database's folder.
enum FolderIdentityTable {
  /// The migration "0003 the folder's identity".
  static func create(_ db: Database) throws {
    try db.execute(sql: "CREATE TABLE dataFolder (identity TEXT NOT NULL)")
  }
}

extension MetadataDatabase {
  /// Throws for a folder with contents whose database is missing or empty, before a new one is created.
  static func checkPresence(in folder: DataFolder) throws {
    let size = size(in: folder)
    guard (size ?? 0) == 0 else { return }
    let contents = folder.contents
    if !contents.isEmpty { throw refusal(folder, contents, size == nil ? "is missing" : "is empty") }
  }

  /// Bytes of a folder's database; `nil` if there is none.
  private static func size(in folder: DataFolder) -> Int? {
    let path = folder.url.appending(path: fileName).path
    return (try? FileManager.default.attributesOfItem(atPath: path)[.size] as? Int) ?? nil
  }

  /// The contents of a folder that have no record in its database, which may be missing or another folder's. Changes
  /// nothing.
  /// - Throws: `ModelError` if the database cannot be read
  public static func unrecorded(in folder: DataFolder) throws -> [StoredContents] {
    guard (size(in: folder) ?? 0) > 0 else { return folder.contents }
    return try folder.unrecorded(in: MetadataDatabase(folder, unknown: .leave))
  }

  /// Gives database and folder the same identity.
  /// - Throws: `UnrecordedContentsError` if the folder has contents that are not this database's
  func join(_ folder: DataFolder, _ unknown: UnknownContents) throws {
    if unknown == .leave { return }
    let own = try read { try String.fetchOne($0, sql: "SELECT identity FROM dataFolder") }
    let identity = folder.identity
    let contents = folder.contents
    if let own, own == identity {
      // A name is recorded before the first contents are stored, and never deleted.
      if unknown == .refuse, contents.contains(where: { $0.kind == .adapter }), try !hasAdapters {
        throw Self.refusal(folder, contents, "knows nothing of the adapters")
      }
      return
    }
    if unknown == .refuse, !contents.isEmpty {
      // If the folder or the database has no identity yet, it was made by an earlier version, and the records decide.
      let areDifferent = own != nil && identity != nil
      if areDifferent { throw Self.refusal(folder, contents, "belongs to another folder") }
      guard try !recordedContents().isDisjoint(with: contents) else {
        throw Self.refusal(folder, contents, "knows nothing of them")
      }
    }
    let joined = own ?? identity ?? RandomName.make("", length: 32)
    if own == nil { try write { try $0.execute(sql: "INSERT INTO dataFolder VALUES (?)", arguments: [joined]) } }
    try folder.setIdentity(joined)
  }

  private var hasAdapters: Bool {
    get throws { try read { try Bool.fetchOne($0, sql: "SELECT EXISTS (SELECT 1 FROM adapter)") ?? false } }
  }

  /// The contents that the records name, whether or not they exist.
  func recordedContents() throws -> Set<StoredContents> {
    try read { try Self.contents($0, jobs: "SELECT id FROM fineTuningJob") }
  }

  /// The contents that the records of a database need: jobs that are over, and those that are being checked, need no
  /// folder.
  static func neededContents(_ db: Database) throws -> Set<StoredContents> {
    try contents(
      db, jobs: "SELECT id FROM fineTuningJob WHERE status IN ('queued', 'running', 'paused')")
  }

  private static func contents(_ db: Database, jobs: String) throws -> Set<StoredContents> {
    func names(_ kind: StoredContents.Kind, _ sql: String) throws -> [StoredContents] {
      try String.fetchAll(db, sql: sql).map { StoredContents(kind: kind, name: $0) }
    }
    return try Set(
      names(.adapter, "SELECT DISTINCT contentHash FROM adapterVersion") + names(.file, "SELECT id FROM file")
        + names(.job, jobs))
  }

  private static func refusal(
    _ folder: DataFolder, _ contents: [StoredContents], _ problem: String
  ) -> UnrecordedContentsError {
    UnrecordedContentsError(path: folder.url.path, contents: contents.summary, problem: problem)
  }
}

/// A data folder has contents that its database has no records of. Nothing was changed.
public struct UnrecordedContentsError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The folder's path.
  public let path: String
  /// How many contents there are of each kind.
  public let contents: String
  /// What is wrong with the database: "is missing", say.
  public let problem: String

  /// What was found, in a sentence that names the folder.
  public var description: String {
    "\(path): the folder holds \(contents), and its database \(MetadataDatabase.fileName) \(problem). Nothing was changed"
  }
}
