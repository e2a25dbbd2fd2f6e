import Formats
internal import Foundation
internal import GRDB
internal import Model

/// The table of responses that are kept.
enum ResponseTables {
  /// The migration "0006 responses".
  static func create(_ db: Database) throws {
    try db.execute(
      sql: """
        CREATE TABLE response (
          id TEXT PRIMARY KEY,
          createdAt INTEGER NOT NULL,
          response BLOB NOT NULL,
          input BLOB NOT NULL,
          context BLOB NOT NULL
        ) WITHOUT ROWID;
        CREATE INDEX responseMadeAt ON response (createdAt);
        """)
  }

  /// The migration "0007 items of responses": which responses have an item in their input or output. Requests that send a
  /// whole conversation name the same items in several responses.
  static func createItems(_ db: Database) throws {
    try db.execute(
      sql: """
        CREATE TABLE responseItem (
          id TEXT NOT NULL,
          response TEXT NOT NULL REFERENCES response (id) ON DELETE CASCADE,
          PRIMARY KEY (id, response)
        ) WITHOUT ROWID;
        CREATE INDEX responseItemOf ON responseItem (response);
        """)
    for (column, path) in [("input", "$"), ("response", "$.output")] {
      // A damaged record has no items; it must not keep the database from opening.
      let text = "CAST(response.\(column) AS TEXT)"
      try db.execute(
        sql: """
          INSERT OR IGNORE INTO responseItem (id, response)
          SELECT item.id, item.response FROM (
            SELECT CASE item.type WHEN 'object' THEN json_extract(item.value, '$.id') END AS id, response.id AS response
            FROM response, json_each(CASE WHEN json_valid(\(text)) THEN \(text) ELSE '[]' END, '\(path)') AS item
          ) AS item WHERE item.id IS NOT NULL
          """)
    }
  }
}

extension ResponseTables {
  /// The migration "0008 size of responses": how many bytes all responses have. Triggers keep it true.
  static func createSize(_ db: Database) throws {
    func bytes(_ row: String) -> String {
      "length(\(row).response) + length(\(row).input) + length(\(row).context)"
    }
    // An item is in the table and in its index.
    func itemBytes(_ row: String) -> String { "2 * (length(\(row).id) + length(\(row).response))" }
    try db.execute(
      sql: """
        CREATE TABLE responseSize (bytes INTEGER NOT NULL);
        INSERT INTO responseSize (bytes) VALUES (
          (SELECT coalesce(sum(\(bytes("response"))), 0) FROM response)
          + (SELECT coalesce(sum(\(itemBytes("responseItem"))), 0) FROM responseItem));
        CREATE TRIGGER responseAdded AFTER INSERT ON response
          BEGIN UPDATE responseSize SET bytes = bytes + \(bytes("NEW")); END;
        CREATE TRIGGER responseRemoved AFTER DELETE ON response
          BEGIN UPDATE responseSize SET bytes = bytes - (\(bytes("OLD"))); END;
        CREATE TRIGGER responseItemAdded AFTER INSERT ON responseItem
          BEGIN UPDATE responseSize SET bytes = bytes + \(itemBytes("NEW")); END;
        CREATE TRIGGER responseItemRemoved AFTER DELETE ON responseItem
          BEGIN UPDATE responseSize SET bytes = bytes - \(itemBytes("OLD")); END;
        """)
  }

  /// Deletes the oldest responses until all have at most so many bytes.
  /// - Parameter newest: a response that is deleted last
  fileprivate static func deleteOldest(above maximum: Int, newest: String? = nil, _ db: Database) throws {
    while let bytes = try Int.fetchOne(db, sql: "SELECT bytes FROM responseSize"), bytes > maximum {
      try db.execute(
        sql: """
          DELETE FROM response WHERE id = (
            SELECT id FROM response WHERE id IS NOT ? ORDER BY createdAt LIMIT 1)
          """, arguments: [newest])
      if db.changesCount > 0 { continue }
      try db.execute(sql: "DELETE FROM response WHERE id = ?", arguments: [newest])
      return
    }
  }
}

/// Responses.
extension MetadataDatabase {
  /// Stores a response, and deletes the oldest where all have more than so many bytes.
  func insert(_ response: StoredResponse, within maximum: Int = .max) throws {
    try write { db in
      try db.execute(
        sql: "INSERT INTO response (id, createdAt, response, input, context) VALUES (?, ?, ?, ?, ?)",
        arguments: [
          response.id, response.createdAt, Data(response.response.encoded),
          Data(JSONValue.array(response.input).encoded), Data(JSONValue.array(response.context).encoded),
        ])
      let statement = try db.makeStatement(sql: "INSERT OR IGNORE INTO responseItem (id, response) VALUES (?, ?)")
      for item in response.input + response.output {
        guard let id = item.object?["id"]?.string else { continue }
        try statement.execute(arguments: [id, response.id])
      }
      try ResponseTables.deleteOldest(above: maximum, newest: response.id, db)
    }
  }

  /// One part of a response. The others are not read.
  /// - Parameter oldest: responses that were made before, in seconds since 1970, do not count
  /// - Returns: `nil` if there is no such response
  func responsePart(_ part: StoredResponse.Part, of id: String, oldest: Int) throws -> JSONValue? {
    let text = try read { db in
      try Data.fetchOne(
        db, sql: "SELECT \(part.rawValue) FROM response WHERE id = ? AND createdAt >= ?", arguments: [id, oldest])
    }
    return try text.map { try JSONValue.parse([UInt8]($0), subject: "response") }
  }

  /// How many bytes a part of a response has. None of it is read.
  /// - Parameter oldest: responses that were made before, in seconds since 1970, do not count
  /// - Returns: `nil` if there is no such response
  func sizeOfResponsePart(_ part: StoredResponse.Part, of id: String, oldest: Int) throws -> Int? {
    try read { db in
      try Int.fetchOne(
        db, sql: "SELECT length(\(part.rawValue)) FROM response WHERE id = ? AND createdAt >= ?",
        arguments: [id, oldest])
    }
  }

  /// The id of the newest response that has an item.
  /// - Parameter oldest: responses that were made before, in seconds since 1970, do not count
  /// - Returns: `nil` if there is none
  func response(withItem id: String, oldest: Int) throws -> String? {
    try read { db in
      try String.fetchOne(
        db,
        sql: """
          SELECT response.id FROM responseItem JOIN response ON response.id = responseItem.response
          WHERE responseItem.id = ? AND createdAt >= ? ORDER BY createdAt DESC LIMIT 1
          """, arguments: [id, oldest])
    }
  }

  /// Deletes a response.
  /// - Parameter oldest: responses that were made before, in seconds since 1970, do not count
  /// - Returns: whether there was one
  func deleteResponse(_ id: String, oldest: Int) throws -> Bool {
    try write { db in
      try db.execute(sql: "DELETE FROM response WHERE id = ? AND createdAt >= ?", arguments: [id, oldest])
      return db.changesCount > 0
    }
  }

  /// Deletes the oldest responses until all have at most so many bytes.
  func deleteOldestResponses(above maximum: Int) throws {
    try write { try ResponseTables.deleteOldest(above: maximum, $0) }
  }

  /// Deletes the responses that were made before a time, in seconds since 1970.
  func deleteResponses(before time: Int) throws {
    try write { try $0.execute(sql: "DELETE FROM response WHERE createdAt < ?", arguments: [time]) }
  }
}
