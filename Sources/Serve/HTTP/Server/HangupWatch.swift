internal import Formats
internal import CLibevent
internal import Glibc

/// Reports at once when a client has closed or reset its connection, even while nothing is read from it.
///
/// It has its own edge-triggered epoll set beside libevent's. libevent's EV_CLOSED does not report a reset, and its loop
/// then spins; a level-triggered event would fire without end on a half-closed connection that is still being answered.
/// It cannot see a FIN that the client's kernel has not sent because the receive window is full.
final class HangupWatch {
  /// - Parameters:
  ///   - isError: the connection was reset, or the network has failed
  ///   - isHangup: both directions are closed
  ///
  /// With neither, the client has closed its sending direction (FIN).
  typealias Handler = (_ id: UInt64, _ isError: Bool, _ isHangup: Bool) -> Void

  private let descriptor: Int32
  private let handler: Handler
  private var source: EventSource?

  /// - Throws: `HTTPServerError` if the system gives no epoll set
  init(loop: EventLoop, handler: @escaping Handler) throws {
    self.handler = handler
    descriptor = graft_hangup_set_new()
    guard descriptor >= 0 else { throw HTTPServerError("epoll", reason: systemMessage(errno)) }
    source = EventSource(loop: loop, descriptor: descriptor, readPersist: { [unowned self] in drain() })
    source?.arm()
  }

  deinit { Glibc.close(descriptor) }

  /// Ends all reports.
  func stop() {
    source?.disarm()
    source = nil
  }

  /// Begins to watch a socket.
  /// - Parameter id: given to the handler. It is no pointer, so that a late report of a closed connection does no harm.
  /// - Returns: whether the socket is watched
  func add(_ socket: Int32, id: UInt64) -> Bool {
    graft_hangup_set_add(descriptor, socket, id) == 0
  }

  /// Ends watching a socket.
  func remove(_ socket: Int32) { _ = graft_hangup_set_remove(descriptor, socket) }

  private func drain() {
    var hangup = graft_hangup()
    while source != nil, graft_hangup_set_next(descriptor, &hangup) == 1 {
      handler(hangup.id, hangup.is_error, hangup.is_hangup)
    }
  }
}
