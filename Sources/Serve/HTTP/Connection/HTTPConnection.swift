internal import CLibevent
internal import Glibc

/// One client connection: a bufferevent, the parser's state and the exchange being answered.
///
/// Everything moves in `advance`, which takes as many steps as bytes and watermarks allow: parse a head, hand the
/// exchange to the handler, move its body, and go on to the next pipelined request only when the response has ended.
/// Between steps nothing is read that nobody asked for, so memory stays bounded; `HangupWatch` sees the peer leave
/// meanwhile.
///
/// Ownership: the server's table and libevent each hold the connection; `close` gives both back, once.
final class HTTPConnection {
  enum Phase {
    /// Waiting for a request's head.
    case head
    /// A request is being read or answered.
    case exchange
    /// No more requests; the last bytes are on their way out.
    case closing
    /// All is sent and our half is shut; what the client still sends is dropped, so that no reset overtakes the
    /// response.
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
  /// The peer has ended its half; seen by the watch, perhaps before its last bytes were read.
  private var peerFinished = false
  /// All of the peer's bytes were read, and then its end.
  private var sawEnd = false
  private var hasServed = false
  private var isReading = false
  private var isAdvancing = false
  private var needsAnotherPass = false
  private var deadline = Deadline.none
  private var timer: EventTimer?
  var bodyPace = BodyPace()

  private static let lingerTimeout = Duration.seconds(3)
  /// A peer that has its answer and never closes its half must not hold up the end of the process.
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
    settle()
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
    // Fails only when memory is out; a response with a hole must not go on.
    if evbuffer_add(output, bytes.baseAddress, bytes.count) != 0 { close() }
  }

  func send(_ bytes: [UInt8]) { bytes.withUnsafeBytes { send($0) } }

  /// Sends what the socket takes right away. libevent would first have the system tell it that the socket is ready,
  /// which costs a token's event more than its writing.
  /// - Returns: bytes that are buffered now; `nil` where the connection is closed, be it because too many were
  func sendAtOnce(_ bytes: UnsafeRawBufferPointer) -> Int? {
    guard phase != .closed else { return nil }
    let buffered = evbuffer_get_length(output)
    guard buffered < configuration.maxBufferedBytes else {
      close()
      return nil
    }
    var sent = 0
    if isPlain, buffered == 0 {
      // An error comes again when libevent writes the rest.
      sent = max(Glibc.write(socket, bytes.baseAddress, bytes.count), 0)
      if sent == bytes.count { return 0 }
    }
    send(UnsafeRawBufferPointer(rebasing: bytes[sent...]))
    return phase == .closed ? nil : buffered + bytes.count - sent
  }

  // MARK: Moving on

  /// Does all that can be done now. May be called from anywhere on the loop; a call from inside a handler is
  /// remembered.
  func advance(readBytes: Bool = false) {
    guard phase != .closed else { return }
    if readBytes, deadline == .body {
      // A body that moves has its deadline set anew, unless it moves too slowly.
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
    if phase == .closed { dispose() } else { settle() }
  }

  /// - Returns: whether another step may follow.
  private func step() -> Bool {
    switch phase {
    case .head:
      guard !isOutputFull, !server.isStopping || hasBegunRequest else { return false }
      return readHead()
    case .exchange:
      if moveBody() { return true }
      // Moving the body may have closed the connection.
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

  /// After all steps: what to read, what to wait for, and whether this is the end.
  private func settle() {
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
      // A client that has hung up takes no answer that is not there yet, and its missing bytes will not come.
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

  /// What `HangupWatch` saw. A client that has ended its half is taken for gone, except that what it had sent is still
  /// read and what was answered by then is still delivered.
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
      settle()
    case .body: bodyTimedOut()
    }
  }

  private func bodyTimedOut() {
    bodyFailed(.timedOut, HTTPProtocolError(408, "the request's body did not come in time"))
    if phase != .closed { settle() }
  }

  // MARK: The end

  func serverIsStopping() {
    switch phase {
    case .head where evbuffer_get_length(output) == 0: close()
    case .lingering: timer?.arm(after: Self.stoppingLingerTimeout)
    case .exchange where isBodyWanted && exchange?.isEnded == false:
      // Whatever still comes could not be served.
      bodyFailed(.disconnected, HTTPProtocolError(503, "the server is shutting down"))
      if phase != .closed { settle() }
    default: advance()
    }
  }

  /// No more requests from here on; what is buffered still goes out.
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

  /// Ends the connection at once, whatever is under way. May be called any number of times.
  func close() {
    guard phase != .closed else { return }
    phase = .closed
    timer?.cancel()
    timer = nil
    server.hangupWatch?.remove(socket)
    bufferevent_setcb(bufferEvent, nil, nil, nil, nil)
    bufferevent_disable(bufferEvent, graft_ev_read | graft_ev_write)
    // Further up the stack a handler may be looking at the input's bytes.
    if !isAdvancing { dispose() }
  }

  /// Gives the socket and both references back. Nothing of the connection may be touched after this.
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
