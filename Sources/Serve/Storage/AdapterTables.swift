internal import GRDB
internal import Model

/// The tables of adapters' names, versions and folders.
enum AdapterTables {
  /// The migration "0001 adapters".
  static func create(_ db: Database) throws {
    try db.execute(
      sql: """
        CREATE TABLE adapter (
          name TEXT NOT NULL PRIMARY KEY,
          lastVersion INTEGER NOT NULL,
          currentVersion INTEGER,
          isLoaded BOOLEAN NOT NULL,
          isPinned BOOLEAN NOT NULL
        );
        CREATE TABLE adapterVersion (
          name TEXT NOT NULL REFERENCES adapter(name) ON DELETE CASCADE,
          number INTEGER NOT NULL,
          contentHash TEXT NOT NULL,
          base TEXT NOT NULL,
          rank INTEGER NOT NULL,
          targets TEXT NOT NULL,
          memoryBytes INTEGER NOT NULL,
          fileBytes INTEGER NOT NULL,
          createdAt INTEGER NOT NULL,
          source TEXT,
          PRIMARY KEY (name, number)
        );
        CREATE TABLE adapterFolder (
          name TEXT NOT NULL PRIMARY KEY,
          identity TEXT NOT NULL,
          contentHash TEXT NOT NULL
        );
        """)
  }
}

/// What a folder among the adapters' folders contained when it was last scanned.
struct AdapterFolderMark: Equatable {
  /// The identity of the folder's files; see `AdapterFolder.identity`.
  var identity: String
  var contentHash: String
}

/// Adapters.
extension MetadataDatabase {
  /// The records of all names.
  func adapters() throws -> [AdapterRecord] {
    try read { db in
      var versions: [String: [AdapterVersion]] = [:]
      for row in try Row.fetchAll(db, sql: "SELECT * FROM adapterVersion ORDER BY name, number") {
        versions[row["name"], default: []].append(
          AdapterVersion(
            number: row["number"], contentHash: row["contentHash"], base: row["base"], rank: row["rank"],
            targets: (row["targets"] as String).split(separator: ",").map(String.init),
            memoryBytes: row["memoryBytes"], fileBytes: row["fileBytes"], createdAt: row["createdAt"],
            source: row["source"]))
      }
      let records = try Row.fetchAll(db, sql: "SELECT * FROM adapter ORDER BY name").map { row in
        let name: String = row["name"]
        return AdapterRecord(
          name: name, versions: versions.removeValue(forKey: name) ?? [], currentNumber: row["currentVersion"],
          lastNumber: row["lastVersion"], isLoaded: row["isLoaded"], isPinned: row["isPinned"])
      }
      // Versions whose name's row was lost are kept, but none of them is current, so requests that name no version do
      // not get one.
      return records
        + versions.map { name, versions in
          AdapterRecord(
            name: name, versions: versions, currentNumber: nil, lastNumber: versions.last?.number ?? 0, isLoaded: false,
            isPinned: false)
        }
    }
  }

  /// Inserts or replaces the record of a name, with what its folder contained.
  func save(_ record: AdapterRecord, mark: AdapterFolderMark? = nil) throws {
    try write { db in
      try db.execute(
        sql: """
          INSERT INTO adapter (name, lastVersion, currentVersion, isLoaded, isPinned) VALUES (?, ?, ?, ?, ?)
          ON CONFLICT (name) DO UPDATE SET lastVersion = excluded.lastVersion,
            currentVersion = excluded.currentVersion, isLoaded = excluded.isLoaded, isPinned = excluded.isPinned
          """,
        arguments: [record.name, record.lastNumber, record.currentNumber, record.isLoaded, record.isPinned])
      try db.execute(sql: "DELETE FROM adapterVersion WHERE name = ?", arguments: [record.name])
      for version in record.versions {
        try db.execute(
          sql: "INSERT INTO adapterVersion VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
          arguments: [
            record.name, version.number, version.contentHash, version.base, version.rank,
            version.targets.joined(separator: ","), version.memoryBytes, version.fileBytes, version.createdAt,
            version.source,
          ])
      }
      if let mark { try Self.insert(mark, record.name, db) }
    }
  }

  /// What the scanned folders contained, by name.
  func folderMarks() throws -> [String: AdapterFolderMark] {
    try read { db in
      var marks: [String: AdapterFolderMark] = [:]
      for row in try Row.fetchAll(db, sql: "SELECT * FROM adapterFolder") {
        marks[row["name"]] = AdapterFolderMark(identity: row["identity"], contentHash: row["contentHash"])
      }
      return marks
    }
  }

  /// Notes what the folder of a name contained.
  func save(_ mark: AdapterFolderMark, of name: String) throws {
    try write { try Self.insert(mark, name, $0) }
  }

  private static func insert(_ mark: AdapterFolderMark, _ name: String, _ db: Database) throws {
    try db.execute(
      sql: "INSERT OR REPLACE INTO adapterFolder (name, identity, contentHash) VALUES (?, ?, ?)",
      arguments: [name, mark.identity, mark.contentHash])
  }
}
