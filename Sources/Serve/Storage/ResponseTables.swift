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

/// Responses.
extension MetadataDatabase {
  func insert(_ response: StoredResponse) throws {
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

  /// Deletes the responses that were made before a time, in seconds since 1970.
  func deleteResponses(before time: Int) throws {
    try write { try $0.execute(sql: "DELETE FROM response WHERE createdAt < ?", arguments: [time]) }
  }
}
