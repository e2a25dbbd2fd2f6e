internal import GRDB

extension StoredFile: FetchableRecord, PersistableRecord {
  static let databaseTableName = "file"
}

/// Uploaded files.
extension MetadataDatabase {
  func insert(_ file: StoredFile) throws { try write { try file.insert($0) } }

  /// The file with an id, if there is one.
  func file(_ id: String) throws -> StoredFile? {
    try read { try StoredFile.filter(Column("id") == id).fetchOne($0) }
  }

  /// Deletes a file's record.
  /// - Returns: whether there was one
  func deleteFile(_ id: String) throws -> Bool {
    try write { try StoredFile.filter(Column("id") == id).deleteAll($0) > 0 }
  }

  /// Files that were made before a time, in seconds since 1970.
  func files(before time: Int) throws -> [StoredFile] {
    try read { try StoredFile.filter(Column("createdAt") < time).order(Column("number")).fetchAll($0) }
  }

  /// A page of all files.
  /// - Parameter purpose: only files with this purpose
  func files(purpose: String?, newestFirst: Bool, after: String?, limit: Int) throws -> Page<StoredFile> {
    try read { db in
      try Self.page(
        db, table: StoredFile.databaseTableName, condition: "(? IS NULL OR purpose = ?)", [purpose, purpose],
        newestFirst: newestFirst, after: after, limit: limit
      ) { try? StoredFile(row: $0) }
    }
  }
}
