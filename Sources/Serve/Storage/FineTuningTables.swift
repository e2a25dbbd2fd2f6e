import Formats
internal import GRDB
internal import Model

/// What the database knows of files, fine-tuning jobs, their events and their checkpoints.
enum FineTuningTables {
  static func create(_ db: Database) throws {
    try db.execute(
      sql: """
        CREATE TABLE file (
          number INTEGER PRIMARY KEY AUTOINCREMENT,
          id TEXT NOT NULL UNIQUE,
          bytes INTEGER NOT NULL,
          createdAt INTEGER NOT NULL,
          filename TEXT NOT NULL,
          purpose TEXT NOT NULL
        );
        CREATE TABLE fineTuningJob (
          number INTEGER PRIMARY KEY AUTOINCREMENT,
          id TEXT NOT NULL UNIQUE,
          status TEXT NOT NULL,
          record TEXT NOT NULL
        );
        CREATE TABLE fineTuningEvent (
          number INTEGER PRIMARY KEY AUTOINCREMENT,
          id TEXT NOT NULL UNIQUE,
          job TEXT NOT NULL REFERENCES fineTuningJob(id) ON DELETE CASCADE,
          step INTEGER,
          record TEXT NOT NULL
        );
        CREATE INDEX fineTuningEventOfJob ON fineTuningEvent (job, number);
        CREATE TABLE fineTuningCheckpoint (
          number INTEGER PRIMARY KEY AUTOINCREMENT,
          id TEXT NOT NULL UNIQUE,
          job TEXT NOT NULL REFERENCES fineTuningJob(id) ON DELETE CASCADE,
          step INTEGER NOT NULL,
          record TEXT NOT NULL,
          UNIQUE (job, step)
        );
        """)
  }

  /// Neither finding the jobs that wait nor the files that are too old grows with all there ever were.
  static func index(_ db: Database) throws {
    try db.execute(
      sql: """
        CREATE INDEX fineTuningJobInState ON fineTuningJob (status, number);
        CREATE INDEX fileMadeAt ON file (createdAt);
        """)
  }
}

/// Events of a job that will come again, since it goes on from an earlier state.
struct RepeatedEvents: Sendable {
  /// All events of later steps.
  var after: Int
  /// What was due after that step is done again too: the figures of its validation, say, but not those of the step.
  var concludesStep: Bool
}

/// A page of a list.
struct Page<Element: Sendable>: Sendable {
  var elements: [Element]
  var hasMore: Bool
}

/// Why a list cannot go on: its cursor names nothing.
struct UnknownCursor: Error {}

extension MetadataDatabase {
  // MARK: files

  func insert(_ file: StoredFile) throws {
    try write { db in
      try db.execute(
        sql: "INSERT INTO file (id, bytes, createdAt, filename, purpose) VALUES (?, ?, ?, ?, ?)",
        arguments: [file.id, file.bytes, file.createdAt, file.filename, file.purpose])
    }
  }

  func file(_ id: String) throws -> StoredFile? {
    try read { try Row.fetchOne($0, sql: "SELECT * FROM file WHERE id = ?", arguments: [id]).map(Self.file) }
  }

  /// - Returns: whether it was there
  func deleteFile(_ id: String) throws -> Bool {
    try write { db in
      try db.execute(sql: "DELETE FROM file WHERE id = ?", arguments: [id])
      return db.changesCount > 0
    }
  }

  /// Files that were made before a time, in seconds since 1970.
  func files(before time: Int) throws -> [StoredFile] {
    try read {
      try Row.fetchAll($0, sql: "SELECT * FROM file WHERE createdAt < ? ORDER BY number", arguments: [time])
        .map(Self.file)
    }
  }

  /// - Parameter newestFirst: the order
  func files(purpose: String?, newestFirst: Bool, after: String?, limit: Int) throws -> Page<StoredFile> {
    try read { db in
      try Self.page(
        db, table: "file", condition: "(? IS NULL OR purpose = ?)", [purpose, purpose], newestFirst: newestFirst,
        after: after, limit: limit, Self.file)
    }
  }

  private static func file(_ row: Row) -> StoredFile {
    StoredFile(
      id: row["id"], bytes: row["bytes"], createdAt: row["createdAt"], filename: row["filename"],
      purpose: row["purpose"])
  }

  // MARK: jobs

  /// Puts a job in the place of the one of its id, with events and checkpoints that belong to the change.
  /// - Parameter forgetting: events that are forgotten, since they will come again
  func save(
    _ job: FineTuningJob, events: [FineTuningEvent] = [], checkpoint: FineTuningCheckpoint? = nil,
    forgetting: RepeatedEvents? = nil
  ) throws {
    try write { db in
      try db.execute(
        sql: """
          INSERT INTO fineTuningJob (id, status, record) VALUES (?, ?, ?)
          ON CONFLICT (id) DO UPDATE SET status = excluded.status, record = excluded.record
          """,
        arguments: [job.id, job.status.rawValue, text(job.record)])
      if let forgetting {
        try db.execute(
          sql: "DELETE FROM fineTuningEvent WHERE job = ? AND step > ?", arguments: [job.id, forgetting.after])
        if forgetting.concludesStep {
          try db.execute(
            sql: """
              DELETE FROM fineTuningEvent
              WHERE job = ? AND step = ? AND json_extract(record, '$.type') <> 'metrics'
              """, arguments: [job.id, forgetting.after])
        }
      }
      if let checkpoint {
        try db.execute(
          sql: "INSERT OR IGNORE INTO fineTuningCheckpoint (id, job, step, record) VALUES (?, ?, ?, ?)",
          arguments: [checkpoint.id, job.id, checkpoint.step, text(checkpoint.record)])
      }
      for event in events {
        try db.execute(
          sql: "INSERT INTO fineTuningEvent (id, job, step, record) VALUES (?, ?, ?, ?)",
          arguments: [event.id, job.id, event.step, text(event.record)])
      }
    }
  }

  /// Forgets a job with its events and checkpoints.
  func deleteJob(_ id: String) throws {
    try write { try $0.execute(sql: "DELETE FROM fineTuningJob WHERE id = ?", arguments: [id]) }
  }

  /// The ids of all jobs that are over, whose folders are needed no more.
  func finishedJobs(among ids: [String]) throws -> [String] {
    let states = ["succeeded", "failed", "cancelled"]
    return try read { db in
      try ids.filter { id in
        let status = try String.fetchOne(db, sql: "SELECT status FROM fineTuningJob WHERE id = ?", arguments: [id])
        return status.map(states.contains) == true
      }
    }
  }

  func job(_ id: String) throws -> FineTuningJob? {
    try read { db in
      try Row.fetchOne(db, sql: "SELECT record FROM fineTuningJob WHERE id = ?", arguments: [id]).flatMap(Self.job)
    }
  }

  /// Jobs in these states, in the order in which they were created.
  func jobs(in states: [FineTuningJob.Status]) throws -> [FineTuningJob] {
    let list = states.map { "'\($0.rawValue)'" }.joined(separator: ",")
    return try read { db in
      try Row.fetchAll(db, sql: "SELECT record FROM fineTuningJob WHERE status IN (\(list)) ORDER BY number")
        .compactMap(Self.job)
    }
  }

  func jobs(after: String?, limit: Int, metadata: [(key: String, value: String)]) throws -> Page<FineTuningJob> {
    try read { db in
      if metadata.isEmpty {
        return try Self.page(
          db, table: "fineTuningJob", condition: "1", [], newestFirst: true, after: after, limit: limit, Self.job)
      }
      var condition: [String] = []
      var arguments: [String?] = []
      for (key, value) in metadata {
        condition.append(
          "EXISTS (SELECT 1 FROM json_each(record, '$.metadata') AS entry WHERE entry.key = ? AND entry.value = ?)")
        arguments += [key, value]
      }
      return try Self.page(
        db, table: "fineTuningJob", condition: condition.joined(separator: " AND "), arguments, newestFirst: true,
        after: after, limit: limit, Self.job)
    }
  }

  private static func job(_ row: Row) -> FineTuningJob? {
    (try? JSONValue.parse((row["record"] as String).utf8, subject: "job")).flatMap(FineTuningJob.init(record:))
  }

  // MARK: events and checkpoints

  /// - Parameter newestFirst: as OpenAI lists them
  func events(of job: String, newestFirst: Bool, after: String?, limit: Int) throws -> Page<JSONValue> {
    try read { db in
      try Self.page(
        db, table: "fineTuningEvent", condition: "job = ?", [job], newestFirst: newestFirst, after: after,
        limit: limit, Self.record)
    }
  }

  /// Calls `body` with each event that has a step, in their order: what the results are made of. However many there
  /// are, only some are in memory, and others may use the database in between.
  func forEachStepEvent(of job: String, _ body: (JSONValue) -> Void) throws {
    var last = 0
    while true {
      let rows = try read { db in
        try Row.fetchAll(
          db,
          sql: """
            SELECT number, record FROM fineTuningEvent
            WHERE job = ? AND number > ? AND step IS NOT NULL ORDER BY number LIMIT 1000
            """, arguments: [job, last])
      }
      guard let final = rows.last else { return }
      last = final["number"]
      rows.compactMap(Self.record).forEach(body)
    }
  }

  /// Events of one step, in their order.
  func stepEvents(of job: String, step: Int) throws -> [JSONValue] {
    try read { db in
      try Row.fetchAll(
        db, sql: "SELECT record FROM fineTuningEvent WHERE job = ? AND step = ? ORDER BY number",
        arguments: [job, step]
      ).compactMap(Self.record)
    }
  }

  func checkpoints(of job: String, after: String?, limit: Int) throws -> Page<JSONValue> {
    try read { db in
      try Self.page(
        db, table: "fineTuningCheckpoint", condition: "job = ?", [job], newestFirst: true, after: after, limit: limit,
        Self.record)
    }
  }

  /// Forgets all but the newest checkpoints of a job.
  /// - Returns: the names of the adapters that those were
  func dropCheckpoints(of job: String, keeping count: Int) throws -> [String] {
    try write { db in
      let old = try Row.fetchAll(
        db, sql: "SELECT * FROM fineTuningCheckpoint WHERE job = ? ORDER BY step DESC LIMIT -1 OFFSET ?",
        arguments: [job, count])
      for row in old {
        try db.execute(sql: "DELETE FROM fineTuningCheckpoint WHERE number = ?", arguments: [row["number"] as Int])
      }
      return old.compactMap { Self.record($0)?.object?["fine_tuned_model_checkpoint"]?.string }
    }
  }

  func checkpointSteps(of job: String) throws -> Set<Int> {
    try read { db in
      Set(try Int.fetchAll(db, sql: "SELECT step FROM fineTuningCheckpoint WHERE job = ?", arguments: [job]))
    }
  }

  private static func record(_ row: Row) -> JSONValue? {
    try? JSONValue.parse((row["record"] as String).utf8, subject: "record")
  }

  private static func page<Element>(
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

private func text(_ json: JSONValue) -> String { String(decoding: json.encoded, as: UTF8.self) }
