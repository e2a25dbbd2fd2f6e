internal import CLibevent
internal import Glibc

/// One client connection: a bufferevent, the parser's state and the present exchange.
///
/// `advance` does as many steps as the received bytes and the watermarks allow: it parses a head, gives the exchange to
/// the handler, delivers its body, and continues with the next pipelined request when the response has ended. Only
/// bytes that are needed now are read from the socket, so memory is limited. `HangupWatch` reports a client that leaves
/// meanwhile.
///
/// The server's table and libevent each hold a reference to the connection; `close` releases both.
final class HTTPConnection {
  enum Phase {
    /// Waiting for a request's head.
    case head
    /// Reading or answering a request.
    case exchange
    /// Reading no more requests, and sending the last bytes.
    case closing
    /// All is sent, and the sending direction is closed. What the client still sends is dropped, since closing the socket
    /// now would reset the connection before the client has read the response.
    case lingering
    case closed
  }

  private enum Deadline { case none, first, idle, header, body, linger }

  let id: UInt64
  let loop: EventLoop
  let configuration: HTTPConfiguration
  let remoteAddress: String
  unowned let server: HTTPServer
  private let socket: Int32
  private let bufferEvent: OpaquePointer
  private let isPlain: Bool

  var phase = Phase.head
  var exchange: HTTPExchange?
  var parser: HTTPRequestParser
  var body = HTTPBodyState.complete
  var keepAlive = true
  /// Whether the client has closed its sending direction. Its last bytes may not be read yet.
  private var peerFinished = false
  /// Whether all of the client's bytes were read, and then its end.
  private var sawEnd = false
  private var hasServed = false
  private var isReading = false
  private var isAdvancing = false
  private var needsAnotherPass = false
  private var deadline = Deadline.none
  private var timer: EventTimer?
  var bodyPace = BodyPace()

  private static let lingerTimeout = Duration.seconds(3)
  /// A client that has its answer and does not close the connection must not delay the end of the process.
  private static let stoppingLingerTimeout = Duration.milliseconds(300)
  private static let readBytes = 64 << 10
  private static let inputWatermark = 256 << 10

  init(id: UInt64, server: HTTPServer, bufferEvent: OpaquePointer, socket: Int32, remoteAddress: String) {
    self.id = id
    self.server = server
    self.bufferEvent = bufferEvent
    isPlain = bufferevent_openssl_get_ssl(bufferEvent) == nil
    self.socket = socket
    self.remoteAddress = remoteAddress
    loop = server.loop
    configuration = server.configuration
    parser = HTTPRequestParser(
      limits: .init(
        requestLineBytes: configuration.maxRequestLineBytes, headerBytes: configuration.maxHeaderBytes,
        headerCount: configuration.maxHeaderCount))
  }

  /// Begins to read.
  func start() {
    let context = Unmanaged.passRetained(self).toOpaque()
    bufferevent_setcb(
      bufferEvent,
      { _, context in HTTPConnection.from(context)?.advance(readBytes: true) },
      { _, context in HTTPConnection.from(context)?.didWrite() },
      { _, events, context in HTTPConnection.from(context)?.eventOccurred(events) }, context)
    bufferevent_setwatermark(bufferEvent, graft_ev_read, 0, max(Self.inputWatermark, configuration.maxHeaderBytes))
    bufferevent_setwatermark(bufferEvent, graft_ev_write, configuration.lowWatermark, 0)
    bufferevent_set_max_single_read(bufferEvent, Self.readBytes)
    bufferevent_set_max_single_write(bufferEvent, configuration.highWatermark)
    var stall = timeval(configuration.stallTimeout)
    bufferevent_set_timeouts(bufferEvent, nil, &stall)
    timer = EventTimer(loop: loop) { [unowned self] in deadlinePassed() }
    guard server.hangupWatch?.add(socket, id: id) == true else { return close() }
    updateState()
  }

  private static func from(_ context: UnsafeMutableRawPointer?) -> HTTPConnection? {
    context.map { Unmanaged<HTTPConnection>.fromOpaque($0).takeUnretainedValue() }
  }

  // MARK: Buffers

  var input: OpaquePointer { bufferevent_get_input(bufferEvent) }
  var output: OpaquePointer { bufferevent_get_output(bufferEvent) }
  var outputBytes: Int { phase == .closed ? 0 : evbuffer_get_length(output) }
  private var isOutputFull: Bool { evbuffer_get_length(output) >= configuration.highWatermark }

  func send(_ bytes: UnsafeRawBufferPointer) {
    guard phase != .closed, bytes.count > 0 else { return }
    // Fails only without memory; then the response is incomplete.
    if evbuffer_add(output, bytes.baseAddress, bytes.count) != 0 { close() }
  }

  func send(_ bytes: [UInt8]) { bytes.withUnsafeBytes { send($0) } }

  /// Writes to the socket at once as much as it takes, and buffers the rest. libevent would first wait for the system to
  /// report that the socket is ready, which takes longer than writing a token's event.
  /// - Returns: the bytes in the buffer; `nil` if the connection is closed, for instance because they were too many
  func sendAtOnce(_ bytes: UnsafeRawBufferPointer) -> Int? {
    guard phase != .closed else { return nil }
    let buffered = evbuffer_get_length(output)
    guard buffered < configuration.maxBufferedBytes else {
      close()
      return nil
    }
    var sent = 0
    if isPlain, buffered == 0 {
      // libevent gets the same error when it writes the rest.
      sent = max(Glibc.write(socket, bytes.baseAddress, bytes.count), 0)
      if sent == bytes.count { return 0 }
    }
    send(UnsafeRawBufferPointer(rebasing: bytes[sent...]))
    return phase == .closed ? nil : buffered + bytes.count - sent
  }

  // MARK: Steps

  /// Does all steps that are possible now. May be called at any time on the loop; a call from inside a handler takes
  /// effect after the handler has returned.
  func advance(readBytes: Bool = false) {
    guard phase != .closed else { return }
    if readBytes, deadline == .body {
      // The deadline of a body begins again with each byte, unless the body is too slow.
      deadline = .none
      if !isAdvancing, bodyPace.isTooSlow(arrived: evbuffer_get_length(input), configuration) {
        return bodyTimedOut()
      }
    }
    guard !isAdvancing else {
      needsAnotherPass = true
      return
    }
    isAdvancing = true
    repeat {
      needsAnotherPass = false
      while step() {}
    } while needsAnotherPass
    isAdvancing = false
    if phase == .closed { dispose() } else { updateState() }
  }

  /// - Returns: whether another step may follow.
  private func step() -> Bool {
    switch phase {
    case .head:
      guard !isOutputFull, !server.isStopping || hasBegunRequest else { return false }
      return readHead()
    case .exchange:
      if deliverBody() { return true }
      // Delivering the body may have closed the connection.
      guard phase == .exchange, let exchange, exchange.isEnded else { return false }
      if keepAlive, body != .complete { return false }
      self.exchange = nil
      hasServed = true
      guard keepAlive else {
        beginClosing()
        return false
      }
      phase = .head
      return true
    case .lingering:
      evbuffer_drain(input, evbuffer_get_length(input))
      return false
    case .closing, .closed: return false
    }
  }

  private var hasBegunRequest: Bool { evbuffer_get_length(input) > 0 }

  /// After all steps: decides whether to read from the socket, which deadline there is, and whether to close.
  private func updateState() {
    switch phase {
    case .head:
      if server.isStopping || (sawEnd && !isOutputFull) { return beginClosing() }
      setReading(!isOutputFull)
      if isOutputFull {
        setDeadline(.none)
      } else {
        setDeadline(hasBegunRequest ? .header : hasServed ? .idle : .first)
      }
    case .exchange:
      let wantsBody = isBodyWanted
      // A client that has closed its side gets no answer that is not complete, and sends no more bytes.
      if sawEnd || (peerFinished && !wantsBody) { return abandonExchange() }
      setReading(wantsBody)
      setDeadline(wantsBody ? .body : .none)
      bodyPace.isWaiting(wantsBody)
    case .closing:
      setReading(false)
      setDeadline(.none)
    case .lingering, .closed: break
    }
  }

  private func setReading(_ wanted: Bool) {
    guard wanted != isReading else { return }
    isReading = wanted
    if wanted {
      bufferevent_enable(bufferEvent, graft_ev_read)
    } else {
      bufferevent_disable(bufferEvent, graft_ev_read)
    }
  }

  // MARK: Events

  private func didWrite() {
    guard phase != .closed else { return }
    if phase == .closing { return finishClosing() }
    exchange?.outputDrained()
    advance()
  }

  private func eventOccurred(_ events: Int16) {
    if events & (graft_bev_event_error | graft_bev_event_timeout) != 0 {
      close()
    } else if events & graft_bev_event_eof != 0 {
      sawEnd = true
      peerFinished = true
      isReading = false
      if phase == .lingering { close() } else { advance() }
    }
  }

  /// Called by `HangupWatch`. A client that has closed its sending direction is treated as gone, but what it had sent is
  /// still read, and what was answered by then is still sent.
  func peerHungUp(isError: Bool, isHangup: Bool) {
    guard phase != .closed else { return }
    if isError || (isHangup && phase != .lingering) { return close() }
    peerFinished = true
    if phase == .head || phase == .exchange { advance() }
  }

  private func abandonExchange() {
    guard let exchange else { return }
    let deliversEarlier = !exchange.hasBegunResponse && evbuffer_get_length(output) > 0
    let isAnswered = exchange.isEnded
    self.exchange = nil
    exchange.connectionLost()
    if deliversEarlier || isAnswered { beginClosing() } else { close() }
  }

  // MARK: Deadlines

  private func setDeadline(_ wanted: Deadline) {
    guard wanted != deadline else { return }
    deadline = wanted
    switch wanted {
    case .none: timer?.cancel()
    case .first, .header: timer?.arm(after: configuration.headerTimeout)
    case .idle: timer?.arm(after: configuration.idleTimeout)
    case .body: timer?.arm(after: configuration.stallTimeout)
    case .linger: timer?.arm(after: server.isStopping ? Self.stoppingLingerTimeout : Self.lingerTimeout)
    }
  }

  private func deadlinePassed() {
    let passed = deadline
    deadline = .none
    switch passed {
    case .none: break
    case .first, .idle, .linger: close()
    case .header:
      refuse(HTTPProtocolError(408, "the request's header did not come in time"))
      updateState()
    case .body: bodyTimedOut()
    }
  }

  private func bodyTimedOut() {
    bodyFailed(.timedOut, HTTPProtocolError(408, "the request's body did not come in time"))
    if phase != .closed { updateState() }
  }

  // MARK: The end

  /// Closes the connection if it is idle; otherwise after its exchange.
  func serverIsStopping() {
    switch phase {
    case .head where evbuffer_get_length(output) == 0: close()
    case .lingering: timer?.arm(after: Self.stoppingLingerTimeout)
    case .exchange where isBodyWanted && exchange?.isEnded == false:
      // A request that comes now could not be answered.
      bodyFailed(.disconnected, HTTPProtocolError(503, "the server is shutting down"))
      if phase != .closed { updateState() }
    default: advance()
    }
  }

  /// Reads no more requests, sends what is buffered, and then closes.
  func beginClosing() {
    guard phase != .closed else { return }
    phase = .closing
    setReading(false)
    setDeadline(.none)
    finishClosing()
  }

  private func finishClosing() {
    guard evbuffer_get_length(output) == 0 else { return }
    if sawEnd { return close() }
    phase = .lingering
    TLSContext.shutdown(bufferEvent)
    shutdown(socket, Int32(SHUT_WR))
    evbuffer_drain(input, evbuffer_get_length(input))
    setReading(true)
    setDeadline(.linger)
  }

  /// Closes the connection at once, whatever it does. May be called any number of times.
  func close() {
    guard phase != .closed else { return }
    phase = .closed
    timer?.cancel()
    timer = nil
    server.hangupWatch?.remove(socket)
    bufferevent_setcb(bufferEvent, nil, nil, nil, nil)
    bufferevent_disable(bufferEvent, graft_ev_read | graft_ev_write)
    // A caller of `advance` may still use the input's bytes; it disposes of the connection later.
    if !isAdvancing { dispose() }
  }

  /// Frees the socket and releases both references. Nothing of the connection may be used after this.
  private func dispose() {
    bufferevent_free(bufferEvent)
    let exchange = exchange
    self.exchange = nil
    exchange?.connectionLost()
    let server = server
    server.remove(self)
    Unmanaged.passUnretained(self).release()
  }
}
