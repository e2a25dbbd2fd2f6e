public import Tokenization
public import Formats
internal import CMalloc
internal import Dispatch
internal import Foundation
public import Kernels
public import Logging
public import Model
internal import Synchronization
internal import Train

/// Fine-tuning jobs: creates and queues them, runs one at a time on a thread of its own beside the engine's requests,
/// alternates between them, and continues them after a restart. The database holds the jobs' state; a job continues
/// from the checkpoints in its folder.
///
/// `@unchecked Sendable`: everything that changes is in `State`, which only `queue` may access; elsewhere the accessor
/// traps.
public final class FineTuningService: @unchecked Sendable {
  /// The parts of the server that jobs use.
  public struct Environment: Sendable {
    /// Serves requests, and shares its thread pool with the job that runs.
    public var engine: Engine
    /// The arithmetic of requests, which jobs train with.
    public var compute: Compute
    /// The model that adapters are trained on.
    public var base: Base
    /// The name that results are derived from.
    public var baseName: String
    /// The base's tokenizer.
    public var tokenizer: Tokenizer
    /// The base's chat template, or why there is none.
    public var chat: Result<ChatFormat, ModelError>
    /// Registers results and checkpoints.
    public var adapters: AdapterStore
    /// Uploads and result files.
    public var files: FileStore
    /// Records of jobs and their events.
    public var database: MetadataDatabase
    /// The limits of jobs.
    public var limits: Limits
    /// Logs starts, ends and failures.
    public var logger: Logger

    /// - Parameters: as the properties of the same names
    public init(
      engine: Engine, compute: Compute, base: Base, baseName: String, tokenizer: Tokenizer,
      chat: Result<ChatFormat, ModelError>, adapters: AdapterStore, files: FileStore, database: MetadataDatabase,
      limits: Limits, logger: Logger
    ) {
      self.engine = engine
      self.compute = compute
      self.base = base
      self.baseName = baseName
      self.tokenizer = tokenizer
      self.chat = chat
      self.adapters = adapters
      self.files = files
      self.database = database
      self.limits = limits
      self.logger = logger
    }
  }

  /// The limits of jobs.
  public struct Limits: Sendable {
    /// The maximum bytes that a job may take in addition to the base; `nil`: what the system has free.
    public var memory: Int?
    /// How many of a job's checkpoints requests can name; older ones are deleted.
    public var checkpointsKept: Int
    /// How much more training than a waiting job a running one may have had before it gives way. Changing jobs takes a
    /// second or two, for a checkpoint and for reading the data again.
    public var turn: Duration

    /// - Parameters: as the properties of the same names
    public init(memory: Int? = nil, checkpointsKept: Int = 3, turn: Duration = .seconds(60)) {
      self.memory = memory
      self.checkpointsKept = checkpointsKept
      self.turn = turn
    }
  }

  /// Why the running job is to stop.
  enum StopReason: Equatable {
    case pause, cancel, giveWay, shutDown
    case fail(FineTuningJob.Failure)

    /// Whether a checkpoint of the last step is written, because the job will continue.
    var savesCheckpoint: Bool { self == .pause || self == .giveWay || self == .shutDown }
  }

  /// The job that runs.
  struct Current {
    var job: FineTuningJob
    /// Controls its thread.
    let run: TrainingRun
    /// Bytes that will be freed when the job ends.
    var memory = 0
    var stopReason: StopReason?
    var began = ContinuousClock.now
    var firstStep = 0
    /// The job's `usedSeconds` when it began to run.
    var usedBefore = 0.0
    var step = 0
    /// When `countTurn` last looked for a job to give way to.
    var askedForTurn = ContinuousClock.now
    /// When a step was last logged.
    var logged: ContinuousClock.Instant?
    /// The figures of the newest step.
    var lastMetrics: JSONObject?
    /// Called when the job no longer runs.
    var whenStopped: [(FineTuningJob) -> Void] = []
  }

  let environment: Environment
  let root: URL
  /// Owns the state, and records events.
  let queue = DispatchQueue(label: "fine-tuning")
  /// Reads and checks the data of new jobs.
  let validation = DispatchQueue(label: "fine-tuning validation")
  /// Registers and removes the jobs' adapters.
  let publishing = DispatchQueue(label: "fine-tuning publishing")
  /// Waits for the samples of checkpoints.
  let sampling = DispatchQueue(label: "fine-tuning samples")
  /// Trains the running job. The thread exists from the start, so that no job can fail to get one.
  let trainingThread = WorkerPool(label: "training", threads: 1)
  private let stopped = DispatchSemaphore(value: 0)

  /// Everything that changes.
  struct State {
    var current: Current?
    /// Jobs whose record could not be written, for example because the disk was full. Writing is tried again.
    var unsaved: [String: FineTuningJob] = [:]
    /// Jobs whose data is being checked, by id.
    var checking: [String: StopFlag] = [:]
    var isStopping = false
    fileprivate var observers: [String: [UInt64: @Sendable () -> Void]] = [:]
    fileprivate var observerCount: UInt64 = 0
  }

  private var uncheckedState = State()

  /// Only for code on the queue.
  var state: State {
    _read {
      dispatchPrecondition(condition: .onQueue(queue))
      yield uncheckedState
    }
    _modify {
      dispatchPrecondition(condition: .onQueue(queue))
      yield &uncheckedState
    }
  }

  /// The job that runs.
  var current: Current? {
    _read { yield state.current }
    _modify { yield &state.current }
  }

  var database: MetadataDatabase { environment.database }
  var logger: Logger { environment.logger }
  var data: FineTuningData {
    FineTuningData(
      base: environment.base, compute: environment.compute, tokenizer: environment.tokenizer, chat: environment.chat)
  }

  /// - Throws: `ModelError` if DATA/jobs cannot be made
  public init(dataFolder: DataFolder, environment: Environment) throws {
    self.environment = environment
    root = dataFolder.url.appending(path: "jobs")
    try FolderAccess.create(root)
  }

  func folder(_ id: String) -> FineTuningFolder { FineTuningFolder(url: root.appending(path: id)) }

  static var now: Int { Int(Date().timeIntervalSince1970) }

  // MARK: start and end

  /// Continues the jobs that ran or waited when the last process ended. The engine must have been started.
  public func start() {
    queue.async { [self] in
      removeUnaccepted()
      removeFinished()
      makeMissingSamples()
      startNextJob()
    }
  }

  /// Removes jobs whose data was still being checked when the process ended. Their clients never got an answer.
  private func removeUnaccepted() {
    for job in (try? database.jobs(in: [.validatingFiles])) ?? [] {
      folder(job.id).remove()
      try? database.deleteJob(job.id)
    }
  }

  /// Removes the folders of jobs whose records say that they are over. A folder without a record stays.
  private func removeFinished() {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: root.path)) ?? []
    let jobs = names.filter { $0.hasPrefix(FineTuningFolder.prefix) }
    for id in (try? database.finishedJobs(among: jobs)) ?? [] { folder(id).remove() }
  }

  /// Starts no further job, and stops the running one.
  public func prepareToStop() {
    queue.sync {
      state.isStopping = true
      if current == nil { stopped.signal() }
      if current?.stopReason == nil { current?.stopReason = .shutDown }
      stopRun()
      state.checking.values.forEach { $0.raise() }
    }
  }

  /// Waits until the running job has saved its state, for at most `patience`. Steps that are not saved are computed
  /// again.
  public func waitUntilStopped(_ patience: Duration) {
    _ = stopped.wait(timeout: .now() + .milliseconds(Int(patience / .milliseconds(1))))
  }

  /// Starts the next job if none runs. On the queue.
  func startNextJob() {
    guard current == nil else { return }
    if state.isStopping {
      stopped.signal()
      return
    }
    for (id, job) in state.unsaved where (try? database.save(job)) != nil { state.unsaved[id] = nil }
    let waiting: [FineTuningJob]
    do { waiting = try database.jobs(in: [.running, .queued]) } catch {
      return logger.error("jobs cannot be read", metadata: ["error": .string("\(error)")])
    }
    let possible = waiting.filter { $0.base == environment.base.fingerprint && state.unsaved[$0.id] == nil }
    guard let job = FineTuningTurns.next(possible) else { return }
    let run = TrainingRun(beside: environment.engine)
    current = Current(job: job, run: run)
    startTraining(job, run)
  }

  /// Clears the running job, and starts the next one. On the queue.
  func clearCurrentJob() {
    guard let ended = current else { return }
    current = nil
    // Returns the trainer's memory to the system.
    queue.async { malloc_trim(0) }
    for callback in ended.whenStopped { callback(ended.job) }
    queue.async { [self] in startNextJob() }
  }

  // MARK: recording

  /// Saves the running job with its new events. On the queue.
  /// - Returns: whether that succeeded; if not, the job fails
  @discardableResult
  func record(
    _ events: [FineTuningEvent] = [], checkpoint: FineTuningCheckpoint? = nil, forgetting: RepeatedEvents? = nil
  ) -> Bool {
    guard let job = current?.job else { return false }
    do {
      try database.save(job, events: events, checkpoint: checkpoint, forgetting: forgetting)
      notify(job.id)
      return true
    } catch {
      logger.error("a job cannot be recorded", metadata: ["job": .string(job.id), "error": .string("\(error)")])
      if current?.stopReason == nil {
        current?.stopReason = .fail(.init(code: "storage_failed", message: "the job cannot be recorded: \(error)"))
        stopRun()
      }
      return false
    }
  }

  /// Stops the running job, for the reason in `stopReason`. When its thread has ended, `ended` is called.
  func stopRun() {
    guard let current, let reason = current.stopReason else { return }
    current.run.stop(saving: reason.savesCheckpoint)
  }

  func event(
    _ message: String, level: FineTuningEvent.Level = .info, step: Int? = nil, data: JSONValue? = nil
  ) -> FineTuningEvent {
    FineTuningEvent(createdAt: Self.now, level: level, message: message, step: step, data: data)
  }

  /// Calls `callback` on the queue whenever a job or its events were saved. On the queue.
  func observe(_ job: String, _ callback: @escaping @Sendable () -> Void) -> UInt64 {
    state.observerCount += 1
    let id = state.observerCount
    state.observers[job, default: [:]][id] = callback
    return id
  }

  func endObserving(_ job: String, _ id: UInt64) {
    state.observers[job]?[id] = nil
    if state.observers[job]?.isEmpty == true { state.observers[job] = nil }
  }

  func notify(_ job: String) {
    for callback in (state.observers[job] ?? [:]).values { callback() }
  }
}
