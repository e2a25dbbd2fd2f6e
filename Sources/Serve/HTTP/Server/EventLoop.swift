internal import CLibevent
internal import Glibc
internal import Synchronization

/// One libevent base on one thread: the owner of every connection's state.
///
/// The loop belongs to the thread that made it until `run()` is called, and to the thread inside `run()` from then on.
/// `execute` is the only way in for other threads; everything else traps off the loop. libevent's own locking stays
/// off, since nothing but the wake-up descriptor is touched from outside.
// @unchecked: the mailbox is behind a mutex and the owner is atomic; all else is only touched on the owning thread,
// which `preconditionInLoop` enforces.
public final class EventLoop: @unchecked Sendable {
  let base: OpaquePointer
  private let owner: Atomic<UInt>
  /// Its reader is the loop, which sleeps in epoll until the wake-up descriptor is written to.
  private let mailbox = Mailbox<@Sendable () -> Void>(sleepers: 1)
  /// Empty memory that is exchanged for the mailbox's.
  private var buffer: [@Sendable () -> Void] = []
  private static let keptWork = 4096
  private let wakeDescriptor: Int32
  private var wakeSource: EventSource?
  /// Armed sources, kept alive here so that libevent never holds the last pointer to one.
  private var sources: [ObjectIdentifier: EventSource] = [:]
  private var dateCache: (second: Int, text: String) = (-1, "")

  /// Makes a loop and has the process ignore SIGPIPE, so that a peer's disappearance is an error code.
  /// - Throws: `HTTPServerError` when the system gives no event base or descriptor.
  public init() throws {
    signal(SIGPIPE, SIG_IGN)
    guard let base = graft_event_base_new() else {
      throw HTTPServerError("event loop", reason: "libevent gave no event base")
    }
    let descriptor = graft_wake_descriptor()
    guard descriptor >= 0 else {
      let reason = systemMessage(errno)
      event_base_free(base)
      throw HTTPServerError("event loop", reason: reason)
    }
    self.base = base
    wakeDescriptor = descriptor
    owner = Atomic(currentThread())
    wakeSource = EventSource(
      loop: self, descriptor: descriptor, onChange: true,
      // The descriptor counts the wake-ups and is never read: it will not be full within the machine's life.
      readPersist: { [unowned self] in drainMailbox() })
    wakeSource?.arm()
  }

  deinit {
    wakeSource?.free()
    for source in sources.values { source.free() }
    event_base_free(base)
    Glibc.close(wakeDescriptor)
  }

  // MARK: Threads

  /// Whether the calling thread owns the loop.
  public var isInLoop: Bool { owner.load(ordering: .relaxed) == currentThread() }

  /// Traps unless the calling thread owns the loop.
  public func preconditionInLoop(_ function: StaticString = #function) {
    precondition(isInLoop, "\(function) called off its event loop")
  }

  /// Runs `work` on the loop, in the order of submission, from any thread. Many calls before the loop comes round cost
  /// one wake-up. Work submitted after `run()` returned is dropped.
  /// - Complexity: O(1); `work` must not block, since every connection waits behind it.
  public func execute(_ work: @Sendable @escaping () -> Void) {
    mailbox.post(work) {
      var one: UInt64 = 1
      // Fails only when the counter is full, and then the loop is woken anyway.
      _ = Glibc.write(wakeDescriptor, &one, MemoryLayout<UInt64>.size)
    }
  }

  private func drainMailbox() {
    var work = buffer
    buffer = []
    mailbox.takeAll(into: &work, then: .always)
    for item in work { item() }
    work.removeAll(keepingCapacity: work.capacity <= Self.keptWork)
    buffer = work
  }

  // MARK: Running

  /// Takes the loop over for the calling thread and serves events until `stop()`. A loop runs once.
  public func run() {
    owner.store(currentThread(), ordering: .relaxed)
    event_base_dispatch(base)
    mailbox.close {}
    drainMailbox()
    for source in sources.values { source.free() }
    sources = [:]
  }

  /// Ends `run()` after the events at hand, from any thread.
  public func stop() {
    execute { [self] in event_base_loopbreak(base) }
  }

  /// Runs `work` once on the loop after `delay`, unless the timer is cancelled before.
  @discardableResult
  public func schedule(after delay: Duration, _ work: @escaping () -> Void) -> EventTimer {
    preconditionInLoop()
    let timer = EventTimer(loop: self, work)
    timer.arm(after: delay)
    return timer
  }

  /// Calls `handler` on the loop with the signal's number whenever the process gets one of `signals`. In place until
  /// the loop is gone; signals belong to one loop of the process.
  public func onSignals(_ signals: [Int32], _ handler: @escaping (Int32) -> Void) {
    preconditionInLoop()
    for number in signals {
      EventSource(loop: self, descriptor: number, events: graft_ev_signal | graft_ev_persist) { handler(number) }.arm()
    }
  }

  // MARK: For this folder

  func retain(_ source: EventSource) { sources[ObjectIdentifier(source)] = source }

  func release(_ source: EventSource) { sources[ObjectIdentifier(source)] = nil }

  /// The time as HTTP's `Date` header has it, made once a second.
  func httpDate() -> String {
    let now = time(nil)
    if now != dateCache.second { dateCache = (now, formatHTTPDate(now)) }
    return dateCache.text
  }
}

/// A timer of an `EventLoop`, to be cancelled or armed again on that loop.
// @unchecked: touched on the loop only, which the loop's precondition enforces.
public final class EventTimer: @unchecked Sendable {
  private let loop: EventLoop
  private var source: EventSource?

  init(loop: EventLoop, _ work: @escaping () -> Void) {
    self.loop = loop
    source = EventSource(loop: loop, descriptor: -1, events: 0, work)
  }

  /// Fires `delay` from now; an earlier arming is forgotten.
  public func arm(after delay: Duration) {
    loop.preconditionInLoop()
    source?.arm(after: delay)
  }

  /// The work will not run (again). Without effect once it has.
  public func cancel() {
    loop.preconditionInLoop()
    source?.disarm()
  }
}

/// The thread's identity as a number, comparable across threads.
func currentThread() -> UInt { UInt(pthread_self()) }

/// The text in a buffer that C filled, up to its zero.
func string(fromC buffer: [CChar]) -> String {
  String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
}

/// What the system says of an error number.
func systemMessage(_ code: Int32) -> String {
  // glibc's strerror is thread-safe since 2.32.
  strerror(code).map { String(cString: $0) } ?? "error \(code)"
}
