#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// The only way into the engine: messages from any thread, drained by the engine's own.
///
/// It also counts the requests that wait, so that one too many is refused at the door. One client that fills the queue
/// does not lock the others out: each has a few places beyond it.
/// `@unchecked Sendable`: every variable is touched under the mutex alone.
final class EngineInbox: @unchecked Sendable {
  struct Submission: Sendable {
    var id: GenerationID
    var request: GenerationRequest
    var sink: @Sendable (GenerationEvent) -> Void
    var time: ContinuousClock.Instant
  }

  enum Message: Sendable {
    case submit(Submission)
    case cancel(GenerationID)
    case stop
  }

  private let capacity: Int
  private var messages: [Message] = []
  private var nextID: UInt64 = 0
  private var isClosed = false
  private var waiting = 0
  private var waitingByClient: [ClientIdentity: Int] = [:]
  /// What a client may have wait though others fill the queue.
  private var share: Int { capacity / 8 }
  private var holders = 0
  private var secondsPerStart = 0.5
  /// Since when the engine's thread has had work at hand without coming round; `nil` while it waits for some.
  private var turnBegan: ContinuousClock.Instant?
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let arrived = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

  /// - Parameter capacity: most requests that wait
  init(capacity: Int) {
    self.capacity = capacity
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(arrived, nil)
  }

  deinit {
    pthread_cond_destroy(arrived)
    pthread_mutex_destroy(mutex)
    arrived.deallocate()
    mutex.deallocate()
  }

  /// Hands a request in, unless nobody will read it or too many wait.
  func submit(
    _ request: GenerationRequest, sink: @escaping @Sendable (GenerationEvent) -> Void
  ) -> (id: GenerationID, refusal: EngineError?) {
    let time = ContinuousClock.now
    return locked {
      nextID += 1
      let id = GenerationID(value: nextID)
      if isClosed { return (id, .shuttingDown) }
      let own = waitingByClient[request.client, default: 0]
      if waiting >= capacity, own >= share || waiting >= 2 * capacity { return (id, overload) }
      waiting += 1
      waitingByClient[request.client] = own + 1
      append(.submit(Submission(id: id, request: request, sink: sink, time: time)))
      return (id, nil)
    }
  }

  func cancel(_ id: GenerationID) { post(.cancel(id)) }

  /// - Returns: whether anybody will read it
  @discardableResult
  func post(_ message: Message) -> Bool {
    locked {
      if isClosed { return false }
      append(message)
      return true
    }
  }

  /// Under the mutex.
  private func append(_ message: Message) {
    messages.append(message)
    turnBegan = turnBegan ?? .now
    if messages.count == 1 { pthread_cond_signal(arrived) }
  }

  /// How long the engine's thread has had work at hand without asking for more; zero while it waits for some. It grows
  /// beyond a pass's time only if the thread hangs.
  var turnAge: Duration { locked { turnBegan.map { $0.duration(to: .now) } ?? .zero } }

  /// Counts a request among those that wait before it is handed in, unless too many do.
  /// - Returns: why it may not wait
  func takePlace() -> EngineError? {
    locked {
      if isClosed { return .shuttingDown }
      if waiting >= capacity { return overload }
      waiting += 1
      return nil
    }
  }

  /// Ends what `takePlace` began.
  func leavePlace() { locked { waiting -= 1 } }

  /// Under the mutex.
  private var overload: EngineError {
    let seconds = (Double(waiting) * secondsPerStart).rounded(.up)
    return .overloaded(waiting: waiting, retryAfter: Int(min(max(seconds, 1), 60)))
  }

  /// A request of the client waits no more.
  /// - Parameter secondsPerStart: about how long it takes until one of those that wait starts
  func leftQueue(_ client: ClientIdentity, secondsPerStart: Double? = nil) {
    locked {
      waiting -= 1
      let own = waitingByClient[client, default: 1] - 1
      waitingByClient[client] = own > 0 ? own : nil
      if let secondsPerStart { self.secondsPerStart = secondsPerStart }
    }
  }

  /// Posts `stop` as the last message.
  func close() {
    locked {
      if !isClosed { messages.append(.stop) }
      isClosed = true
      pthread_cond_signal(arrived)
    }
  }

  /// What `body` hands in arrives at once.
  func together(_ body: () -> Void) {
    locked { holders += 1 }
    body()
    locked {
      holders -= 1
      pthread_cond_signal(arrived)
    }
  }

  /// Everything that has arrived; waits for something to arrive if told to.
  func drain(waiting: Bool) -> [Message] {
    locked {
      while waiting && (messages.isEmpty || holders > 0) {
        turnBegan = messages.isEmpty ? nil : .now
        pthread_cond_wait(arrived, mutex)
      }
      turnBegan = .now
      if messages.isEmpty || holders > 0 { return [] }
      defer { messages = [] }
      return messages
    }
  }

  private func locked<Value>(_ body: () -> Value) -> Value {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    return body()
  }
}
