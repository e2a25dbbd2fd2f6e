import Foundation
import Kernels
public import Model
public import Tokenization

/// Generates text for requests, which may come from any thread, on a thread of its own.
///
/// `EngineLoop` is the work of that thread. It is created on the thread and used there alone; this type is the
/// interface for other threads.
public final class Engine: Sendable {
  /// The engine's limits.
  public struct Settings: Sendable {
    /// Maximum rows of one forward pass.
    public var rowBudget: Int
    /// Maximum requests that run at once.
    public var maxRunning: Int
    /// Maximum requests that wait. More are refused.
    public var maxQueue: Int
    /// Whether requests that begin with the same tokens share the keys and values of these.
    public var cachesPrefixes: Bool
    /// Whether tokens that may come next are computed early, where that saves time. Answers do not depend on it.
    public var speculates: Bool
    /// The maximum time of a pass while requests decode; chunks of prompts are cut to fit. `nil` for no limit.
    public var stepTarget: Duration?
    /// Training's share of the time, 0...0.9, if requests leave no time free.
    public var trainingShare: Double
    /// The rows of batches' requests for each row of others, 0...1, while others run.
    public var batchShare: Double
    /// How much of a grammar's work a pass may wait for; see `GrammarWork`.
    var grammarPatience = GrammarWork.defaultPatience

    /// - Parameters: as the properties of the same names
    public init(
      rowBudget: Int = 128, maxRunning: Int = 256, maxQueue: Int = 256, cachesPrefixes: Bool = true,
      speculates: Bool = true, stepTarget: Duration? = .milliseconds(200), trainingShare: Double = 0.1,
      batchShare: Double = 0.05
    ) {
      self.rowBudget = rowBudget
      self.maxRunning = maxRunning
      self.maxQueue = maxQueue
      self.cachesPrefixes = cachesPrefixes
      self.speculates = speculates
      self.stepTarget = stepTarget
      self.trainingShare = trainingShare
      self.batchShare = batchShare
    }
  }

  let metrics = EngineMetrics()
  /// Shares the transformer's thread pool with training.
  let lease: ComputeLease
  private let inbox = EngineInbox()
  private let admissions: AdmissionControl
  private let transformer: Transformer
  private let cache: KeyValueCache
  private let tokenizer: Tokenizer
  private let settings: Settings
  private let hasEnded = DispatchSemaphore(value: 0)

  /// - Parameters:
  ///   - transformer: used by the engine alone, except for its thread pool
  ///   - cache: used by the engine alone
  public init(transformer: Transformer, cache: KeyValueCache, tokenizer: Tokenizer, settings: Settings = Settings()) {
    self.transformer = transformer
    self.cache = cache
    self.tokenizer = tokenizer
    self.settings = settings
    admissions = AdmissionControl(capacity: max(settings.maxQueue, 1))
    lease = ComputeLease(trainingShare: settings.trainingShare)
    metrics.update { $0.record(cache) }
  }

  /// The kernels, thread pool and mode of the passes.
  var compute: Compute { transformer.compute }

  /// Maximum positions of a request, prompt and answer together.
  public var positionLimit: Int { min(transformer.contextLength, cache.positionCapacity) }

  /// Starts the engine's thread. Called once.
  public func start() {
    let thread = Thread { [self] in
      EngineLoop(
        inbox: inbox, admissions: admissions, metrics: metrics, lease: lease, transformer: transformer, cache: cache,
        tokenizer: tokenizer, settings: settings
      ).run()
      hasEnded.signal()
    }
    thread.name = "engine"
    thread.stackSize = 4 << 20
    thread.start()
  }

  /// Ends every generation with `EngineError.shuttingDown` and waits for the thread to end. May be called again.
  public func stop() {
    admissions.close()
    inbox.close()
    hasEnded.wait()
    // Another call of `stop` waits for the same signal.
    hasEnded.signal()
  }

  // MARK: requests

  /// Admits all of `count` requests of a client, or none. From now on they count as waiting, and their timeouts run.
  /// - Parameter label: the metrics' label of their adapters
  /// - Throws: `EngineError.overloaded`, `.exceedsQueue` or `.shuttingDown`
  func admit(_ client: ClientIdentity, label: String, count: Int) throws(EngineError) -> [Admission] {
    do { return try admissions.admit(client, count: count) } catch {
      countRejections(label: label, count)
      throw error
    }
  }

  /// Gives admitted requests to the engine's thread. It receives them all between the same two passes, so that requests
  /// with the same prompt form a group.
  /// - Parameters:
  ///   - admissions: one for each request
  ///   - sink: called with a request's index and each of its events, on the engine's thread, or on the caller's if the
  ///     engine has stopped; must not block
  func submit(
    _ requests: [GenerationRequest], admissions: [Admission], sink: @escaping @Sendable (Int, GenerationEvent) -> Void
  ) {
    let messages = zip(requests, admissions).enumerated().map { index, item in
      EngineInbox.Message.submit(item.0, item.1) { sink(index, $0) }
    }
    guard !inbox.post(messages) else { return }
    for (index, request) in requests.enumerated() {
      countRejections(label: request.label, 1)
      sink(index, .failed(.shuttingDown))
    }
  }

  /// Admits one request and hands it to the engine's thread.
  /// - Parameter sink: called with each event, on the engine's thread, or on the caller's if the request is refused;
  ///   must not block
  public func submit(
    _ request: GenerationRequest, client: ClientIdentity = ClientIdentity(),
    sink: @escaping @Sendable (GenerationEvent) -> Void
  ) -> GenerationID {
    do {
      let admissions = try admit(client, label: request.label, count: 1)
      submit([request], admissions: admissions) { sink($1) }
      return admissions[0].id
    } catch {
      sink(.failed(error))
      return .refused
    }
  }

  private func countRejections(label: String, _ count: Int) {
    metrics.update { metrics in
      let index = metrics.index(of: label)
      for _ in 0..<count { metrics.end(index, .rejected) }
    }
  }

  /// Ends a generation before the next pass, without another event.
  public func cancel(_ id: GenerationID) { inbox.post(.cancel(id)) }

  /// How long the engine's thread has been busy since it last read its inbox; zero while it waits. If this is more than
  /// a few seconds, the thread hangs.
  public var turnAge: Duration { inbox.turnAge }
}
