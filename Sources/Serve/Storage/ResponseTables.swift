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
    }
  }

  /// The response with an id, if there is one.
  func response(_ id: String) throws -> StoredResponse? {
    guard let row = try read({ try Row.fetchOne($0, sql: "SELECT * FROM response WHERE id = ?", arguments: [id]) })
    else { return nil }
    func json(_ column: String) throws -> JSONValue {
      try JSONValue.parse([UInt8](row[column] as Data), subject: "response")
    }
    return StoredResponse(
      id: row["id"], createdAt: row["createdAt"], response: try json("response"),
      input: try json("input").array ?? [], context: try json("context").array ?? [])
  }

  /// Deletes a response.
  /// - Returns: whether there was one
  func deleteResponse(_ id: String) throws -> Bool {
    try write { db in
      try db.execute(sql: "DELETE FROM response WHERE id = ?", arguments: [id])
      return db.changesCount > 0
    }
  }

  /// Deletes the responses that were made before a time, in seconds since 1970.
  func deleteResponses(before time: Int) throws {
    try write { try $0.execute(sql: "DELETE FROM response WHERE createdAt < ?", arguments: [time]) }
  }
}
