import Formats
internal import Foundation
internal import GRDB
internal import Model

/// The tables of batches, and of the results of the lines of those that are not over.
enum BatchTables {
  /// The migration "0005 batches".
  static func create(_ db: Database) throws {
    try db.execute(
      sql: """
        CREATE TABLE batch (
          number INTEGER PRIMARY KEY AUTOINCREMENT,
          id TEXT NOT NULL UNIQUE,
          status TEXT NOT NULL,
          record TEXT NOT NULL
        );
        CREATE INDEX batchInState ON batch (status, number);
        CREATE TABLE batchResult (
          batch TEXT NOT NULL REFERENCES batch(id) ON DELETE CASCADE,
          line INTEGER NOT NULL,
          failed INTEGER NOT NULL,
          text BLOB NOT NULL,
          PRIMARY KEY (batch, line)
        );
        """)
  }
}

/// Batches.
extension MetadataDatabase {
  func insert(_ batch: Batch) throws { try write { try Self.save(batch, $0) } }

  /// The batch with an id, if there is one.
  func batch(_ id: String) throws -> Batch? { try read { try Self.batch(id, $0) } }

  /// The first batch that is not over, in the order in which they were created. Records that cannot be read are left out.
  /// - Parameter ids: batches that are left out
  func oldestBatch(except ids: Set<String> = []) throws -> Batch? {
    try read { db in
      let rows = try Row.fetchCursor(db, sql: "SELECT id, record FROM batch WHERE \(Self.isUnfinished) ORDER BY number")
      while let row = try rows.next() {
        if !ids.contains(row["id"]), let batch = Self.batch(row) { return batch }
      }
      return nil
    }
  }

  /// The ids of the batches that are not over, those whose records cannot be read included.
  func unfinishedBatches() throws -> Set<String> {
    try read { db in Set(try String.fetchAll(db, sql: "SELECT id FROM batch WHERE \(Self.isUnfinished)")) }
  }

  /// The ids of the batches that are not over and whose records cannot be read.
  func unreadableBatches() throws -> [String] {
    try read { db in
      try Row.fetchAll(db, sql: "SELECT id, record FROM batch WHERE \(Self.isUnfinished)")
        .filter { Self.batch($0) == nil }.map { $0["id"] }
    }
  }

  private static let isUnfinished: String = {
    let over = Batch.Status.allCases.filter(\.isOver).map { "'\($0.rawValue)'" }
    return "status NOT IN (\(over.joined(separator: ",")))"
  }()

  /// A page of all batches, the newest first.
  func batches(after: String?, limit: Int) throws -> Page<Batch> {
    try read { db in
      try Self.page(
        db, table: "batch", condition: "1", [], newestFirst: true, after: after, limit: limit, Self.batch)
    }
  }

  /// Changes a batch.
  /// - Returns: the changed batch; `nil` if there is none with this id
  func update(batch id: String, _ change: (inout Batch) -> Void) throws -> Batch? {
    try write { try Self.update(id, $0, change) }
  }

  /// Changes a batch that is over now, and deletes the results of its lines.
  func end(batch id: String, _ change: (inout Batch) -> Void) throws {
    try write { db in
      _ = try Self.update(id, db, change)
      try db.execute(sql: "DELETE FROM batchResult WHERE batch = ?", arguments: [id])
    }
  }

  // MARK: results

  /// Adds the results of lines, and counts them in the batch.
  func add(_ results: [BatchResult], toBatch id: String) throws {
    try write { db in
      for result in results {
        try db.execute(
          sql: "INSERT OR IGNORE INTO batchResult (batch, line, failed, text) VALUES (?, ?, ?, ?)",
          arguments: [id, result.line, result.hasFailed, Data(result.text)])
      }
      _ = try Self.update(id, db) { batch in
        let failed = results.count(where: \.hasFailed)
        batch.counts.failed += failed
        batch.counts.completed += results.count - failed
      }
    }
  }

  func linesWithResult(ofBatch id: String) throws -> Set<Int> {
    try read { db in Set(try Int.fetchAll(db, sql: "SELECT line FROM batchResult WHERE batch = ?", arguments: [id])) }
  }

  func resultCounts(ofBatch id: String) throws -> (completed: Int, failed: Int) {
    try read { db in
      let failures = try Bool.fetchAll(db, sql: "SELECT failed FROM batchResult WHERE batch = ?", arguments: [id])
      let failed = failures.count(where: { $0 })
      return (failures.count - failed, failed)
    }
  }

  /// Calls `body` with the text of each result, in the order of the lines. Only some are in memory at once.
  func forEachResult(ofBatch id: String, failed: Bool, _ body: ([UInt8]) throws -> Void) throws {
    var last = 0
    while true {
      let rows = try read { db in
        try Row.fetchAll(
          db,
          sql: "SELECT line, text FROM batchResult WHERE batch = ? AND failed = ? AND line > ? ORDER BY line LIMIT 100",
          arguments: [id, failed, last])
      }
      guard let final = rows.last else { return }
      last = final["line"]
      for row in rows { try body([UInt8](row["text"] as Data)) }
    }
  }

  // MARK: records

  private static func batch(_ id: String, _ db: Database) throws -> Batch? {
    try Row.fetchOne(db, sql: "SELECT record FROM batch WHERE id = ?", arguments: [id]).flatMap(batch)
  }

  private static func batch(_ row: Row) -> Batch? {
    (try? JSONValue.parse((row["record"] as String).utf8, subject: "batch")).flatMap(Batch.init(record:))
  }

  private static func save(_ batch: Batch, _ db: Database) throws {
    try db.execute(
      sql: """
        INSERT INTO batch (id, status, record) VALUES (?, ?, ?)
        ON CONFLICT (id) DO UPDATE SET status = excluded.status, record = excluded.record
        """,
      arguments: [batch.id, batch.status.rawValue, String(decoding: batch.record.encoded, as: UTF8.self)])
  }

  private static func update(_ id: String, _ db: Database, _ change: (inout Batch) -> Void) throws -> Batch? {
    guard var batch = try batch(id, db) else { return nil }
    change(&batch)
    try save(batch, db)
    return batch
  }
}
