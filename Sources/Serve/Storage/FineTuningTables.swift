import Formats
internal import GRDB
internal import Model

/// The tables of uploaded files, fine-tuning jobs, their events and their checkpoints.
///
/// A job is kept as one JSON text: SQLite reads its metadata, and its members need no columns. Its order and its numbers are
/// kept as the client sent them, which Codable's JSON would not do.
enum FineTuningTables {
  /// The migration "0002 files and fine-tuning".
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

  /// The migration "0004 indexes …": finding the jobs that wait and the files that are too old takes no longer the more
  /// there have been.
  static func index(_ db: Database) throws {
    try db.execute(
      sql: """
        CREATE INDEX fineTuningJobInState ON fineTuningJob (status, number);
        CREATE INDEX fileMadeAt ON file (createdAt);
        """)
  }
}

/// Events that a job will report again, since it resumes at an earlier step.
struct RepeatedEvents: Sendable {
  /// Events of later steps than this one are repeated.
  var after: Int
  /// Whether what follows this step, such as its validation, is repeated too. The step's own figures are not.
  var concludesStep: Bool
}

/// Jobs, their events and their checkpoints.
extension MetadataDatabase {
  // MARK: jobs

  /// Inserts or replaces a job, with the events and the checkpoint that belong to the change.
  /// - Parameter forgetting: events that are deleted, since the job will report them again
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

  /// Deletes a job with its events and checkpoints.
  func deleteJob(_ id: String) throws {
    try write { try $0.execute(sql: "DELETE FROM fineTuningJob WHERE id = ?", arguments: [id]) }
  }

  /// The jobs among `ids` that are over, so that their folders are not needed any more.
  func finishedJobs(among ids: [String]) throws -> [String] {
    let states = ["succeeded", "failed", "cancelled"]
    return try read { db in
      try ids.filter { id in
        let status = try String.fetchOne(db, sql: "SELECT status FROM fineTuningJob WHERE id = ?", arguments: [id])
        return status.map(states.contains) == true
      }
    }
  }

  /// The job with an id, if there is one.
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

  /// A page of all jobs, the newest first.
  /// - Parameter metadata: only jobs that have all of these
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

  /// A page of a job's events.
  func events(of job: String, newestFirst: Bool, after: String?, limit: Int) throws -> Page<JSONValue> {
    try read { db in
      try Self.page(
        db, table: "fineTuningEvent", condition: "job = ?", [job], newestFirst: newestFirst, after: after,
        limit: limit, Self.record)
    }
  }

  /// Calls `body` with each event that has a step, in order. Only some are in memory at once, and other queries run in
  /// between.
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

  /// Events of one step, in order.
  func stepEvents(of job: String, step: Int) throws -> [JSONValue] {
    try read { db in
      try Row.fetchAll(
        db, sql: "SELECT record FROM fineTuningEvent WHERE job = ? AND step = ? ORDER BY number",
        arguments: [job, step]
      ).compactMap(Self.record)
    }
  }

  /// A page of a job's checkpoints, the newest first.
  func checkpoints(of job: String, after: String?, limit: Int) throws -> Page<JSONValue> {
    try read { db in
      try Self.page(
        db, table: "fineTuningCheckpoint", condition: "job = ?", [job], newestFirst: true, after: after, limit: limit,
        Self.record)
    }
  }

  /// Deletes all but the newest checkpoints of a job.
  /// - Returns: the names of their adapters
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

  /// The steps that a job has checkpoints of.
  func checkpointSteps(of job: String) throws -> Set<Int> {
    try read { db in
      Set(try Int.fetchAll(db, sql: "SELECT step FROM fineTuningCheckpoint WHERE job = ?", arguments: [job]))
    }
  }

  // MARK: samples

  /// Adds samples to a checkpoint's record, if it was not dropped meanwhile, and records an event of its job.
  func keep(_ samples: [JSONValue], of checkpoint: FineTuningCheckpoint, event: FineTuningEvent) throws {
    try write { db in
      try db.execute(
        sql: """
          UPDATE fineTuningCheckpoint SET record = json_set(record, '$.samples', json(?)) WHERE job = ? AND step = ?
          """, arguments: [text(.array(samples)), checkpoint.job, checkpoint.step])
      try db.execute(
        sql: "INSERT INTO fineTuningEvent (id, job, step, record) VALUES (?, ?, ?, ?)",
        arguments: [event.id, checkpoint.job, event.step, text(event.record)])
    }
  }

  /// The samples of a job's newest checkpoint that has any.
  func newestSamples(of job: String) throws -> JSONValue? {
    try read { db in
      try Row.fetchOne(
        db,
        sql: """
          SELECT json_extract(record, '$.samples') AS record FROM fineTuningCheckpoint
          WHERE job = ? AND json_array_length(record, '$.samples') > 0 ORDER BY step DESC LIMIT 1
          """, arguments: [job]
      ).flatMap(Self.record)
    }
  }

  /// The checkpoints that have no samples though their jobs have prompts for them, in the order of their making.
  func checkpointsWithoutSamples() throws -> [FineTuningCheckpoint] {
    try read { db in
      try Row.fetchAll(
        db,
        sql: """
          SELECT checkpoint.record AS record FROM fineTuningCheckpoint AS checkpoint
          JOIN fineTuningJob AS job ON job.id = checkpoint.job
          WHERE json_array_length(job.record, '$.samplePrompts') > 0
            AND json_type(checkpoint.record, '$.samples') IS NULL
          ORDER BY checkpoint.number
          """
      ).compactMap(Self.record).compactMap(FineTuningCheckpoint.init(record:))
    }
  }

  private static func record(_ row: Row) -> JSONValue? {
    try? JSONValue.parse((row["record"] as String).utf8, subject: "record")
  }
}

private func text(_ json: JSONValue) -> String { String(decoding: json.encoded, as: UTF8.self) }
