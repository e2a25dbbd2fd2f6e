internal import Formats
internal import CLibevent
internal import Glibc
internal import Synchronization

/// The thread that owns all connections: a libevent base that one thread runs.
///
/// The loop belongs to the thread that created it, and from `run()` on to the thread inside `run()`. Other threads can only
/// call `execute`, `stop` and `isInLoop`; all else traps on them. libevent's locking is off, since other threads touch only
/// the wake-up descriptor.
///
/// `@unchecked Sendable`: the mailbox locks itself and the owner is atomic; all else is only touched on the owning thread,
/// which `preconditionInLoop` enforces.
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
  /// Armed sources. Kept here, since libevent holds no reference to them.
  private var sources: [ObjectIdentifier: EventSource] = [:]
  private var dateCache: (second: Int, text: String) = (-1, "")

  /// Creates a loop, and makes the process ignore SIGPIPE, so that writing to a closed connection is an error code.
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
      // The descriptor counts wake-ups and is never read: its 64 bits do not overflow.
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

  /// Runs `work` on the loop, in the order of the calls, from any thread. Many calls in one turn of the loop cost one
  /// wake-up. After `run()` has returned, `work` is dropped.
  ///
  /// `work` must not block, since all connections wait for it.
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

  /// Serves events on the calling thread until `stop()`. Called once.
  public func run() {
    owner.store(currentThread(), ordering: .relaxed)
    event_base_dispatch(base)
    mailbox.close {}
    drainMailbox()
    for source in sources.values { source.free() }
    sources = [:]
  }

  /// Ends `run()` after the present events. From any thread.
  public func stop() {
    execute { [self] in event_base_loopbreak(base) }
  }

  /// Runs `work` once on the loop after `delay`, unless the timer is cancelled before that.
  @discardableResult
  public func schedule(after delay: Duration, _ work: @escaping () -> Void) -> EventTimer {
    preconditionInLoop()
    let timer = EventTimer(loop: self, work)
    timer.arm(after: delay)
    return timer
  }

  /// Calls `handler` on the loop with the signal's number whenever the process gets one of `signals`. Only one loop of the
  /// process can do so.
  public func onSignals(_ signals: [Int32], _ handler: @escaping (Int32) -> Void) {
    preconditionInLoop()
    for number in signals {
      EventSource(loop: self, descriptor: number, events: graft_ev_signal | graft_ev_persist) { handler(number) }.arm()
    }
  }

  // MARK: For the HTTP layer

  func retain(_ source: EventSource) { sources[ObjectIdentifier(source)] = source }

  func release(_ source: EventSource) { sources[ObjectIdentifier(source)] = nil }

  /// The time in the form of HTTP's `Date` header, formatted once a second.
  func httpDate() -> String {
    let now = time(nil)
    if now != dateCache.second { dateCache = (now, formatHTTPDate(now)) }
    return dateCache.text
  }
}

/// A timer of an `EventLoop`. Used on that loop only.
public final class EventTimer {
  private let loop: EventLoop
  private var source: EventSource?

  init(loop: EventLoop, _ work: @escaping () -> Void) {
    self.loop = loop
    source = EventSource(loop: loop, descriptor: -1, events: 0, work)
  }

  /// Fires once, `delay` from now, instead of at any earlier time.
  public func arm(after delay: Duration) {
    loop.preconditionInLoop()
    source?.arm(after: delay)
  }

  /// Prevents the timer from firing.
  public func cancel() {
    loop.preconditionInLoop()
    source?.disarm()
  }
}

/// A number that identifies the calling thread.
func currentThread() -> UInt { UInt(pthread_self()) }

/// The text of a zero-terminated buffer.
func string(fromC buffer: [CChar]) -> String {
  String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
}

/// libevent's version, as the library says.
public var libeventVersion: String { String(cString: event_get_version()) }
