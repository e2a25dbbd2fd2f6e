import Dispatch
import Formats
import Foundation
public import Logging
import Model
import Synchronization

/// Batches: creates and cancels them, and runs the oldest on a thread of its own.
///
/// Its lines are requests of the client `ClientIdentity.batches`, so they only use the passes that other requests leave.
/// The database has the batches and the results of the lines that are done, so a batch continues after a restart with the
/// lines that are left.
public final class BatchService: Sendable {
  /// Maximum requests of a batch, as OpenAI has it.
  static let maximumLines = 50_000
  /// Maximum bytes of an input file, as OpenAI has it.
  static let maximumBytes = 200 << 20
  /// Maximum lines that wait or run in the engine.
  static let maximumRunning = 32

  let context: ServerContext
  let files: FileStore
  let database: MetadataDatabase
  let loop: EventLoop
  let logger: Logger
  let unknownNames: UnknownNameLog
  /// The memory for the conversations of lines: of its own, so that lines take no place from requests. One line can have half.
  let memory = MemoryShare(BodyMemory(limit: 128 << 20), client: "batches")
  private let inputs: BatchInputs
  private let thread = WorkerPool(label: "batches", threads: 1)
  /// Signalled when there may be something to do.
  let wake = DispatchSemaphore(value: 0)
  private let hasStopped = DispatchSemaphore(value: 0)
  private let stopping = Mutex(false)

  /// - Parameter loop: runs the lines' requests
  /// - Throws: `ModelError` if DATA/batches cannot be made or the database cannot be read
  public init(
    dataFolder: DataFolder, context: ServerContext, files: FileStore, loop: EventLoop, logger: Logger
  ) throws {
    self.context = context
    self.files = files
    database = files.database
    self.loop = loop
    self.logger = logger
    unknownNames = UnknownNameLog(logger)
    inputs = try BatchInputs(dataFolder, database)
  }

  /// Continues the batches that were not over when the last process ended. The engine must have been started.
  public func start() { thread.async { [self] in run() } }

  /// Stops: lines that run are cancelled, and run again after a restart. Call before the engine is stopped.
  public func stop() {
    stopping.withLock { $0 = true }
    wake.signal()
    hasStopped.wait()
    hasStopped.signal()
  }

  var isStopping: Bool { stopping.withLock { $0 } }

  func inputFile(of batch: String) -> URL { inputs.url(of: batch) }

  static var now: Int { Int(Date().timeIntervalSince1970) }

  // MARK: requests; all wait for the disk

  /// Creates a batch.
  func create(_ wanted: BatchRequest) throws(APIError) -> Batch {
    let file = try file(wanted.inputFile)
    guard file.purpose == "batch" else {
      throw .invalid(
        "The file has the purpose '\(file.purpose)'; it must be 'batch'", param: "input_file_id",
        code: "invalid_value")
    }
    guard file.bytes <= Self.maximumBytes else {
      throw .invalid(
        "The file has \(file.bytes) bytes, more than \(Self.maximumBytes)", param: "input_file_id",
        code: "invalid_value")
    }
    let batch = Batch(
      endpoint: wanted.endpoint, inputFile: file.id, createdAt: Self.now, metadata: wanted.metadata)
    do throws(APIError) {
      try translating {
        try inputs.link(files.location(file.id), as: batch.id) { try database.insert(batch) }
      }
    } catch {
      // The file may have been deleted since it was looked up.
      _ = try self.file(wanted.inputFile)
      throw error
    }
    logger.info("batch created", metadata: ["id": .string(batch.id), "endpoint": .string(batch.endpoint.rawValue)])
    wake.signal()
    return batch
  }

  /// - Throws: a 400 if there is no such file
  private func file(_ id: String) throws(APIError) -> StoredFile {
    do throws(FileStoreError) { return try files.file(id) } catch {
      throw .invalid("\(error)", param: "input_file_id", code: "not_found", status: 400)
    }
  }

  /// - Throws: a 404 if there is no such batch
  func batch(_ id: String) throws(APIError) -> Batch {
    guard let batch = try translating({ try database.batch(id) }) else { throw .unknownBatch(id) }
    return batch
  }

  /// Ends a batch with the results that it has.
  func cancel(_ id: String) throws(APIError) -> Batch {
    let batch = try translating {
      try database.update(batch: id) { batch in
        if !batch.status.isOver, batch.status != .cancelling { batch.enter(.cancelling, at: Self.now) }
      }
    }
    guard let batch else { throw .unknownBatch(id) }
    guard batch.status == .cancelling else {
      throw .invalid("The batch is '\(batch.status.rawValue)' already", param: "id", code: "invalid_value")
    }
    wake.signal()
    return batch
  }

  private func translating<Value>(_ body: () throws -> Value) throws(APIError) -> Value {
    do { return try body() } catch {
      throw APIError(status: 500, type: "server_error", message: "\(error)", param: nil, code: "storage_failed")
    }
  }

  // MARK: the thread

  private func run() {
    for id in (try? database.unreadableBatches()) ?? [] {
      logger.error("a batch's record cannot be read, so the batch is left out", metadata: ["id": .string(id)])
    }
    var delays = BatchDelays()
    while !isStopping {
      do {
        if let batch = try database.oldestBatch(except: delays.waiting(now: .now)) {
          try proceed(batch, &delays)
        } else if let time = delays.next {
          _ = wake.wait(timeout: .now() + max(ContinuousClock.now.duration(to: time) / .seconds(1), 0))
        } else {
          wake.wait()
        }
      } catch {
        // The database itself cannot be used.
        logger.error("batches wait", metadata: ["reason": "\(error)"])
        _ = wake.wait(timeout: .now() + 5)
      }
    }
    hasStopped.signal()
  }

  /// Takes a batch to its next status. If that is impossible now, for example because the disk is full, nothing is lost: the
  /// batch is tried again later, and others come first. If it is still impossible when the batch expires, the batch fails.
  /// - Throws: `ModelError` if the database cannot be used
  private func proceed(_ batch: Batch, _ delays: inout BatchDelays) throws {
    do {
      do { try proceed(batch) } catch let problem as Batch.Problem { try fail(batch, problem) }
      delays.end(batch.id)
    } catch {
      logger.error("a batch waits", metadata: ["id": .string(batch.id), "reason": "\(error)"])
      if Self.now < batch.expiresAt { return delays.add(batch.id, now: .now) }
      delays.end(batch.id)
      let problem = Batch.Problem(code: "server_error", message: "The batch could not be completed: \(error)")
      try database.end(batch: batch.id) { batch in
        batch.problems.append(problem)
        batch.enter(.failed, at: Self.now)
      }
      forget(batch.id)
    }
  }

  /// Ends a batch that can never be completed, with the results that it has.
  private func fail(_ batch: Batch, _ problem: Batch.Problem) throws {
    _ = try database.update(batch: batch.id) { $0.problems = [problem] }
    try BatchResults(batch, service: self).finish(as: .failed)
  }

  /// Takes a batch to its next status.
  private func proceed(_ batch: Batch) throws {
    switch batch.status {
    case .validating: try validate(batch)
    case .inProgress: try BatchRun(batch, service: self).run()
    case .finalizing: try BatchResults(batch, service: self).finish(as: .completed)
    case .cancelling: try BatchResults(batch, service: self).finish(as: .cancelled)
    case .failed, .completed, .expired, .cancelled: break
    }
  }

  /// Reads all lines; a batch with a malformed line fails before anything is computed.
  private func validate(_ batch: Batch) throws {
    var problems: [Batch.Problem] = []
    var ids: Set<String> = []
    do {
      var reader = try BatchReader(inputFile(of: batch.id))
      while problems.count < 100, !isStopping, let (number, text) = try reader.next() {
        do throws(Batch.Problem) {
          let line = try BatchLine(text, number: number, endpoint: batch.endpoint)
          guard ids.insert(line.customID).inserted else {
            throw Batch.Problem(
              code: "duplicate_custom_id", message: "The 'custom_id' was in an earlier line", param: "custom_id",
              line: number)
          }
          guard ids.count <= Self.maximumLines else {
            throw Batch.Problem(
              code: "too_many_requests", message: "The file has more than \(Self.maximumLines) requests",
              line: number)
          }
        } catch { problems.append(error) }
      }
    } catch let problem as Batch.Problem { problems.append(problem) } catch {
      problems.append(.noInput)
    }
    if isStopping { return }
    if ids.isEmpty, problems.isEmpty {
      problems.append(Batch.Problem(code: "empty_file", message: "The input file has no requests"))
    }
    _ = try database.update(batch: batch.id) { batch in
      guard batch.status == .validating else { return }
      batch.problems = problems
      batch.counts.total = ids.count
      batch.enter(problems.isEmpty ? .inProgress : .failed, at: Self.now)
    }
    if !problems.isEmpty { forget(batch.id) }
  }

  /// Removes the link to the input file of a batch that is over.
  func forget(_ id: String) { inputs.remove(id) }
}

/// The batches that could not be taken to their next status, and when each is tried again.
struct BatchDelays {
  private var times: [String: (failures: Int, retryAt: ContinuousClock.Instant)] = [:]

  /// When the first batch is tried again; `nil` if none waits.
  var next: ContinuousClock.Instant? { times.values.map(\.retryAt).min() }

  /// The batches that are not tried yet.
  func waiting(now: ContinuousClock.Instant) -> Set<String> { Set(times.filter { $0.value.retryAt > now }.keys) }

  /// A batch has failed: it is tried again after 5 seconds, then 10, 20, 40, and at most every minute.
  mutating func add(_ id: String, now: ContinuousClock.Instant) {
    let failures = times[id]?.failures ?? 0
    times[id] = (failures + 1, now + .seconds(min(5 << min(failures, 4), 60)))
  }

  /// A batch was taken to its next status.
  mutating func end(_ id: String) { times[id] = nil }
}

extension APIError {
  static func unknownBatch(_ id: String) -> APIError {
    .invalid("No such batch: \(id.excerpt(80))", param: "id", code: "not_found", status: 404)
  }
}
