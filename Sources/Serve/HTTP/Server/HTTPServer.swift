internal import CLibevent
internal import Glibc

/// An HTTP/1.1 server on an event loop, over TCP or TLS.
///
/// It listens from `init` on and accepts while the loop runs, until `stop`.
///
/// `@unchecked Sendable`: all mutable state belongs to the loop's thread; other threads use `stop` and the constants only.
public final class HTTPServer: @unchecked Sendable {
  /// Called on the loop when a request's head is complete. It must not block; the exchange may be answered later.
  public typealias Handler = @Sendable (HTTPExchange) -> Void

  /// The loop that the server's connections belong to.
  public let loop: EventLoop
  /// The configuration that `init` was given.
  public let configuration: HTTPConfiguration
  /// The port in use.
  public let port: UInt16

  let handler: Handler
  let bodyMemory: BodyMemory
  private(set) var hangupWatch: HangupWatch?
  private(set) var isStopping = false
  private let tls: TLSContext?
  private var listener: OpaquePointer?
  private var connections: [UInt64: HTTPConnection] = [:]
  private var nextConnectionID: UInt64 = 0
  private var isAcceptPaused = false
  private var stopTimer: EventTimer?
  private var onStopped: [() -> Void] = []

  /// Binds and listens. On the loop's thread only.
  /// - Throws: `HTTPServerError` that names the address and port, or the certificate or key.
  public init(loop: EventLoop, configuration: HTTPConfiguration, handler: @escaping Handler) throws {
    loop.preconditionInLoop()
    self.loop = loop
    self.configuration = configuration
    self.handler = handler
    bodyMemory = BodyMemory(limit: configuration.maxBodyMemory)
    tls = try configuration.tls.map(TLSContext.init)
    let socket = try ListeningSocket(
      host: configuration.host, port: configuration.port, backlog: configuration.backlog)
    port = socket.port
    do {
      hangupWatch = try HangupWatch(loop: loop) { [unowned self] id, isError, isHangup in
        connections[id]?.peerHungUp(isError: isError, isHangup: isHangup)
      }
    } catch {
      close(socket.descriptor)
      throw error
    }
    try listen(socket)
  }

  /// Open connections. On the loop only.
  public var connectionCount: Int {
    loop.preconditionInLoop()
    return connections.count
  }

  /// Stops accepting, closes idle connections, lets running exchanges end for up to `deadline`, closes the rest, and
  /// then calls `then` on the loop. From any thread.
  public func stop(deadline: Duration, then: @Sendable @escaping () -> Void = {}) {
    loop.execute { [self] in
      onStopped.append(then)
      guard !isStopping else { return finishIfStopped() }
      isStopping = true
      closeListener()
      for connection in Array(connections.values) { connection.serverIsStopping() }
      stopTimer = loop.schedule(after: deadline) { [self] in
        for connection in Array(connections.values) { connection.close() }
      }
      finishIfStopped()
    }
  }

  // MARK: Accepting

  private func listen(_ socket: ListeningSocket) throws {
    // Released in `closeListener`.
    let context = Unmanaged.passRetained(self)
    listener = graft_listener_new(
      loop.base,
      { _, socket, address, length, context in
        guard let context else { return }
        Unmanaged<HTTPServer>.fromOpaque(context).takeUnretainedValue()
          .accept(socket, remoteAddress: numericAddress(address, length: length))
      }, context.toOpaque(), socket.descriptor)
    guard let listener else {
      context.release()
      close(socket.descriptor)
      throw HTTPServerError("port \(port)", reason: "libevent gave no listener")
    }
    evconnlistener_set_error_cb(listener) { _, context in
      guard let context else { return }
      Unmanaged<HTTPServer>.fromOpaque(context).takeUnretainedValue().acceptFailed()
    }
  }

  private func closeListener() {
    guard let listener else { return }
    self.listener = nil
    evconnlistener_free(listener)
    Unmanaged.passUnretained(self).release()
  }

  private func accept(_ socket: Int32, remoteAddress: String) {
    tuneConnection(socket)
    let bufferEvent = tls?.makeBufferEvent(loop: loop, socket: socket) ?? plainBufferEvent(socket)
    guard let bufferEvent else {
      close(socket)
      return
    }
    nextConnectionID += 1
    let connection = HTTPConnection(
      id: nextConnectionID, server: self, bufferEvent: bufferEvent, socket: socket, remoteAddress: remoteAddress)
    connections[connection.id] = connection
    connection.start()
    if connections.count >= configuration.maxConnections { pauseAccepting() }
  }

  private func plainBufferEvent(_ socket: Int32) -> OpaquePointer? {
    tls == nil ? graft_bufferevent_new(loop.base, socket) : nil
  }

  /// The process is probably out of descriptors. The waiting client would wake the loop again at once, so accepting
  /// pauses.
  private func acceptFailed() {
    pauseAccepting()
    loop.schedule(after: .milliseconds(100)) { [self] in resumeAccepting() }
  }

  private func pauseAccepting() {
    guard let listener, !isAcceptPaused else { return }
    isAcceptPaused = true
    evconnlistener_disable(listener)
  }

  private func resumeAccepting() {
    guard let listener, isAcceptPaused, connections.count < configuration.maxConnections else { return }
    isAcceptPaused = false
    evconnlistener_enable(listener)
  }

  // MARK: For connections

  /// Forgets a closed connection.
  func remove(_ connection: HTTPConnection) {
    connections[connection.id] = nil
    resumeAccepting()
    finishIfStopped()
  }

  private func finishIfStopped() {
    guard isStopping, connections.isEmpty else { return }
    hangupWatch?.stop()
    hangupWatch = nil
    stopTimer?.cancel()
    stopTimer = nil
    let waiting = onStopped
    onStopped = []
    for callback in waiting { callback() }
  }
}
