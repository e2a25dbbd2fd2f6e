internal import CLibevent
internal import Glibc

/// One libevent event: a timer, a signal or a descriptor.
///
/// libevent has an unretained pointer to the source and uses it only while the event is armed. The loop retains armed
/// sources, so the pointer is valid then.
final class EventSource {
  private unowned let loop: EventLoop
  private var event: OpaquePointer?
  private var work: (() -> Void)?
  private let isPersistent: Bool

  /// - Parameters:
  ///   - descriptor: a file descriptor, a signal's number, or -1 for a timer
  ///   - events: libevent's flags
  ///   - work: called on the loop for each event
  init(loop: EventLoop, descriptor: Int32, events: Int16, _ work: @escaping () -> Void) {
    self.loop = loop
    self.work = work
    isPersistent = events & graft_ev_persist != 0
    event = event_new(
      loop.base, descriptor, events,
      { _, _, context in
        guard let context else { return }
        Unmanaged<EventSource>.fromOpaque(context).takeUnretainedValue().fire()
      }, Unmanaged.passUnretained(self).toOpaque())
  }

  /// Calls `work` whenever `descriptor` is readable, until disarmed.
  /// - Parameter onChange: calls it once each time that more can be read (edge-triggered), so that nothing has to be read
  convenience init(loop: EventLoop, descriptor: Int32, onChange: Bool = false, readPersist work: @escaping () -> Void) {
    let edge = onChange ? graft_ev_edge : 0
    self.init(loop: loop, descriptor: descriptor, events: graft_ev_read | graft_ev_persist | edge, work)
  }

  deinit { free() }

  private func fire() {
    // Before the work, which may arm the source again.
    let work = work
    if !isPersistent { loop.release(self) }
    work?()
  }

  /// Begins to wait for the event; with `delay`, fires after that time.
  func arm(after delay: Duration? = nil) {
    guard let event else { return }
    if let delay {
      var interval = timeval(delay)
      guard event_add(event, &interval) == 0 else { return }
    } else {
      guard event_add(event, nil) == 0 else { return }
    }
    loop.retain(self)
  }

  /// Stops waiting for the event.
  func disarm() {
    guard let event else { return }
    event_del(event)
    loop.release(self)
  }

  /// Removes the event from libevent. The source cannot be armed again.
  func free() {
    guard let event else { return }
    self.event = nil
    event_free(event)
  }
}

extension timeval {
  /// The duration, limited to between zero and a year.
  init(_ duration: Duration) {
    let clamped = min(max(duration, .zero), .seconds(31_536_000))
    let (seconds, attoseconds) = clamped.components
    self.init(tv_sec: Int(seconds), tv_usec: Int(attoseconds / 1_000_000_000_000))
  }
}
