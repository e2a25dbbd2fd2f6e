internal import GRDB

/// A page of a list.
struct Page<Element: Sendable>: Sendable {
  var elements: [Element]
  /// Whether the list continues after the page.
  var hasMore: Bool
}

/// The cursor of a page is not in the list.
struct UnknownCursor: Error {}

extension MetadataDatabase {
  /// Reads a page of a table whose rows have a `number`, which orders them, and an `id`, which cursors name.
  /// - Parameters:
  ///   - condition: SQL that the rows fulfil, with a "?" for each of `arguments`
  ///   - after: the page begins after the row with this id
  ///   - make: the element of a row; rows that give `nil` are left out
  /// - Throws: `UnknownCursor` if `after` is not in the list
  static func page<Element>(
    _ db: Database, table: String, condition: String, _ arguments: [String?], newestFirst: Bool, after: String?,
    limit: Int, _ make: (Row) -> Element?
  ) throws -> Page<Element> {
    var cursor: Int?
    if let after {
      cursor = try Int.fetchOne(
        db, sql: "SELECT number FROM \(table) WHERE id = ? AND \(condition)",
        arguments: StatementArguments([after] + arguments))
      if cursor == nil { throw UnknownCursor() }
    }
    let beyond = cursor.map { "AND number \(newestFirst ? "<" : ">") \($0)" } ?? ""
    let rows = try Row.fetchAll(
      db,
      sql: """
        SELECT * FROM \(table) WHERE \(condition) \(beyond) ORDER BY number \(newestFirst ? "DESC" : "ASC")
        LIMIT \(limit + 1)
        """, arguments: StatementArguments(arguments))
    return Page(elements: rows.prefix(limit).compactMap(make), hasMore: rows.count > limit)
  }
}
