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
