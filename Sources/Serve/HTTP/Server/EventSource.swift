internal import CLibevent
internal import Glibc

/// The owner of one libevent event: a timer, a signal or a descriptor.
///
/// libevent keeps an unretained pointer to the source. That pointer is only live while the event is armed, and an armed
/// source is held by its loop, so the pointer cannot outlive the object.
final class EventSource {
  private unowned let loop: EventLoop
  private var event: OpaquePointer?
  private var work: (() -> Void)?
  private let isPersistent: Bool

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
  /// - Parameter onChange: only once each time that more can be read, so that it need not be read at all
  convenience init(loop: EventLoop, descriptor: Int32, onChange: Bool = false, readPersist work: @escaping () -> Void) {
    let edge = onChange ? graft_ev_edge : 0
    self.init(loop: loop, descriptor: descriptor, events: graft_ev_read | graft_ev_persist | edge, work)
  }

  deinit { free() }

  private func fire() {
    // The loop's reference goes first, so that the work may arm the source again.
    let work = work
    if !isPersistent { loop.release(self) }
    work?()
  }

  /// Starts to listen; with `delay`, fires that long from now.
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

  func disarm() {
    guard let event else { return }
    event_del(event)
    loop.release(self)
  }

  /// Takes the event from libevent for good.
  func free() {
    guard let event else { return }
    self.event = nil
    event_free(event)
  }
}

extension timeval {
  /// At least zero, at most about a year, which is beyond what any timeout here means.
  init(_ duration: Duration) {
    let clamped = min(max(duration, .zero), .seconds(31_536_000))
    let (seconds, attoseconds) = clamped.components
    self.init(tv_sec: Int(seconds), tv_usec: Int(attoseconds / 1_000_000_000_000))
  }
}
