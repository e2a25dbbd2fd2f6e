internal import CLibevent
internal import Glibc

/// Tells at once when a peer has closed or reset its connection, whether or not anyone is reading from it.
///
/// An epoll set of its own, edge-triggered, beside libevent's: libevent's EV_CLOSED stays silent on a reset (and its
/// loop then spins), and a level-triggered event would fire without end on a half-closed socket that is still being
/// answered. What no one can see is a FIN that the peer's kernel holds back behind more unread bytes than the receive
/// window takes.
final class HangupWatch {
  /// - `isError`: the connection is dead (reset, or the network gave up).
  /// - `isHangup`: both directions are shut.
  /// With neither, the peer has ended its half (FIN).
  typealias Handler = (_ id: UInt64, _ isError: Bool, _ isHangup: Bool) -> Void

  private let descriptor: Int32
  private let handler: Handler
  private var source: EventSource?

  init(loop: EventLoop, handler: @escaping Handler) throws {
    self.handler = handler
    descriptor = graft_hangup_set_new()
    guard descriptor >= 0 else { throw HTTPServerError("epoll", reason: systemMessage(errno)) }
    source = EventSource(loop: loop, descriptor: descriptor, readPersist: { [unowned self] in drain() })
    source?.arm()
  }

  deinit { Glibc.close(descriptor) }

  /// Ends the watch; nothing is reported any more.
  func stop() {
    source?.disarm()
    source = nil
  }

  /// - Parameter id: what the handler is told; an id, not a pointer, so that a late report finds nothing.
  func add(_ socket: Int32, id: UInt64) -> Bool {
    graft_hangup_set_add(descriptor, socket, id) == 0
  }

  func remove(_ socket: Int32) { _ = graft_hangup_set_remove(descriptor, socket) }

  private func drain() {
    var hangup = graft_hangup()
    while source != nil, graft_hangup_set_next(descriptor, &hangup) == 1 {
      handler(hangup.id, hangup.is_error, hangup.is_hangup)
    }
  }
}
