/// One request and its response.
///
/// It belongs to its connection's loop: all members except `id`, `request` and `loop` trap on other threads, which must
/// use `loop.execute`. When the response has ended or the client has left, all calls are without effect, so a handler
/// need not check for that.
///
/// `@unchecked Sendable`: other threads may hold a reference, but the mutable state is only touched on the loop, which each
/// member checks.
public final class HTTPExchange: @unchecked Sendable {
  private enum BodySink {
    /// The handler has not asked for the body, and nothing is read.
    case undecided
    case consumer(limit: Int, onChunk: (UnsafeRawBufferPointer) -> Void, onEnd: (Result<Void, HTTPBodyError>) -> Void)
    /// The consumer has received the body's end, or there is no consumer. Further bytes are dropped.
    case finished
  }

  private enum ResponseState { case none, streaming, ended }

  /// The request's id, which is also sent as `x-request-id`: the client's `X-Request-Id` if it is valid, else a random one.
  public let id: String
  /// The request without its body.
  public let request: HTTPRequestHead
  /// The loop that the exchange belongs to.
  public let loop: EventLoop

  private var connection: HTTPConnection?
  private var defaultHeaders = HTTPHeaders()
  private var response = ResponseState.none
  private var framing = HTTPResponseHead.Framing.chunked
  private var sendsBody = true
  /// Bytes that are missing from a response whose length was announced.
  private var bytesLeft: Int?
  /// Memory for `write`, kept from one call to the next.
  private var chunk: [UInt8] = []
  private var lastWrite = ContinuousClock.now
  private var silenceTimer: EventTimer?
  /// Fires if the response has not begun by then.
  private var beginTimer: EventTimer?
  private var awaitsContinue: Bool
  private var sink = BodySink.undecided
  private var received = 0
  private var isBodyPaused = false
  private var isGone = false
  private var isOverHighWatermark = false
  private var drainHandler: (() -> Void)?
  private var closeHandler: (() -> Void)?
  private let begin = ContinuousClock.now
  private var status: Int?
  private let onEnd: (@Sendable (HTTPExchangeSummary) -> Void)?

  init(connection: HTTPConnection, head: HTTPRequestParser.Head) {
    self.connection = connection
    loop = connection.loop
    request = head.request
    onEnd = connection.configuration.onEnd
    awaitsContinue = head.expectsContinue
    id = RequestID.accepted(head.request.headers["x-request-id"]) ?? RequestID.make()
  }

  // MARK: State

  /// Whether the client left, or the connection was closed, before the response had ended.
  public var isClosed: Bool {
    loop.preconditionInLoop()
    return isGone
  }

  /// Whether the response is complete: the handler's, or an error of the HTTP layer.
  public var isEnded: Bool {
    loop.preconditionInLoop()
    return response == .ended
  }

  /// Whether the response's head was sent, with its status.
  var hasBegunResponse: Bool { response != .none }

  /// Calls `handler` once when the client leaves (FIN or RST, even while nothing is written) or the connection is closed;
  /// at once if that has happened already; never after the response has ended. A later handler replaces an earlier one. A
  /// client that closes only its sending direction counts as gone: HTTP clients do not do that while they wait.
  public func onClose(_ handler: @escaping () -> Void) {
    loop.preconditionInLoop()
    if isGone { return handler() }
    if response != .ended { closeHandler = handler }
  }

  /// Sets a header of the response, even if that is an error of the HTTP layer. A header of that name that is given with
  /// the response replaces it.
  public func setHeader(_ name: String, _ value: String) {
    loop.preconditionInLoop()
    defaultHeaders.set(name, value)
  }

  // MARK: Request body

  /// Reads the whole body and then calls `then`, with an error if it has more than `limit` bytes (by default
  /// `maxBodyBytes`) or is not received completely. `then` may be called before this returns. A body can be read once.
  public func collectBody(limit: Int? = nil, then: @escaping (Result<HTTPBody, HTTPBodyError>) -> Void) {
    loop.preconditionInLoop()
    guard let connection, response != .ended else { return then(.failure(.disconnected)) }
    let body = HTTPBody(connection.server.bodyMemory, client: request.remoteAddress)
    streamBody(limit: limit) { [self] in
      if !body.append($0) { refuseForMemory() }
    } onEnd: {
      then($0.map { body })
    }
  }

  /// What the client may hold of the memory for bodies; `nil` when it has left or the response has ended.
  var memoryShare: MemoryShare? {
    loop.preconditionInLoop()
    return connection.map { MemoryShare($0.server.bodyMemory, client: request.remoteAddress) }
  }

  /// The memory for bodies is full. The rest of the body is not read.
  private func refuseForMemory() {
    setHeader("Retry-After", "1")
    connection?.bodyFailed(
      .outOfMemory, HTTPProtocolError(503, "the bodies of other requests fill the memory for them; try again"))
  }

  /// Calls `onChunk` with the body's bytes as they are received, then `onEnd` once, with an error if the body has more than
  /// `limit` bytes (by default `maxBodyBytes`) or is not received completely. The bytes are valid during the call only.
  public func streamBody(
    limit: Int? = nil, onChunk: @escaping (UnsafeRawBufferPointer) -> Void,
    onEnd: @escaping (Result<Void, HTTPBodyError>) -> Void
  ) {
    loop.preconditionInLoop()
    guard let connection, response != .ended else { return onEnd(.failure(.disconnected)) }
    guard case .undecided = sink else { return onEnd(.failure(.malformed("the body was read before"))) }
    let limit = limit ?? connection.configuration.maxBodyBytes
    if case .length(let remaining) = connection.body, remaining > limit {
      sink = .finished
      return onEnd(.failure(.tooLarge(limit: limit)))
    }
    sink = .consumer(limit: limit, onChunk: onChunk, onEnd: onEnd)
    if awaitsContinue {
      awaitsContinue = false
      // After the response's head it would be a part of the response.
      if response == .none { connection.send(Array("HTTP/1.1 100 Continue\r\n\r\n".utf8)) }
    }
    connection.advance()
  }

  /// Stops `onChunk` and reading from the socket until `resumeBody`.
  public func pauseBody() {
    loop.preconditionInLoop()
    isBodyPaused = true
  }

  /// Continues after `pauseBody`.
  public func resumeBody() {
    loop.preconditionInLoop()
    guard isBodyPaused else { return }
    isBodyPaused = false
    connection?.advance()
  }

  // MARK: Response

  /// Answers with a complete body. `Content-Length`, `Date`, `Server`, `Connection` and `x-request-id` are added. A HEAD
  /// request gets the headers only.
  public func respond(status: Int, headers: HTTPHeaders = [:], body: [UInt8] = []) {
    loop.preconditionInLoop()
    guard let connection, response == .none else { return }
    sendHead(status: status, headers: headers, framing: .length(body.count), mayKeepBody: false)
    if sendsBody { connection.send(body) }
    finish()
  }

  /// Answers with an error. `HTTPConfiguration.errorBody` makes its body.
  public func fail(status: Int, message: String) {
    loop.preconditionInLoop()
    guard let connection, response == .none else { return }
    let (contentType, bytes) = connection.configuration.errorBody(status, message)
    respond(status: status, headers: ["Content-Type": contentType], body: bytes)
  }

  /// Begins a response whose body is sent by `write` and ended by `end`.
  /// - Parameter length: the body's length, if it is known. Without it the response is chunked, or for HTTP/1.0 ends with
  ///   the connection.
  public func startStreaming(status: Int, headers: HTTPHeaders = [:], length: Int? = nil) {
    loop.preconditionInLoop()
    guard response == .none, connection != nil else { return }
    let unknown: HTTPResponseHead.Framing = request.version == .http1_0 ? .untilClose : .chunked
    let framing = length.map { .length($0) } ?? unknown
    bytesLeft = length
    sendHead(status: status, headers: headers, framing: framing, mayKeepBody: true)
    response = .streaming
  }

  /// Sends bytes of a streaming response.
  /// - Returns: whether to write more now. After false the handler should wait for `onDrain`; if it does not, the connection
  ///   is closed at `HTTPConfiguration.maxBufferedBytes`.
  @discardableResult
  public func write(_ bytes: UnsafeRawBufferPointer) -> Bool {
    loop.preconditionInLoop()
    guard let connection, response == .streaming else { return false }
    guard sendsBody, bytes.count > 0 else { return true }
    lastWrite = .now
    let buffered: Int?
    if let left = bytesLeft {
      // Further bytes would be taken for the next response.
      guard bytes.count <= left else {
        abort()
        return false
      }
      bytesLeft = left - bytes.count
    }
    if framing == .chunked {
      chunk.removeAll(keepingCapacity: true)
      chunk.appendChunk(bytes)
      buffered = chunk.withUnsafeBytes { connection.sendAtOnce($0) }
    } else {
      buffered = connection.sendAtOnce(bytes)
    }
    guard let buffered else { return false }
    isOverHighWatermark = buffered >= connection.configuration.highWatermark
    return !isOverHighWatermark
  }

  /// Sends bytes of a streaming response.
  /// - Returns: whether to write more now
  @discardableResult
  public func write(_ bytes: [UInt8]) -> Bool { bytes.withUnsafeBytes { write($0) } }

  /// Response bytes that the kernel has not taken yet.
  public var bufferedBytes: Int {
    loop.preconditionInLoop()
    return connection?.outputBytes ?? 0
  }

  /// Calls `handler` each time that the buffer has fallen to the low watermark after `write` had returned false.
  public func onDrain(_ handler: @escaping () -> Void) {
    loop.preconditionInLoop()
    if connection != nil, response != .ended { drainHandler = handler }
  }

  /// Calls `handler` once if the response does not begin within `HTTPConfiguration.maxSilence` from now.
  public func onSilence(_ handler: @escaping () -> Void) {
    loop.preconditionInLoop()
    guard let connection, response == .none else { return }
    beginTimer?.cancel()
    beginTimer = loop.schedule(after: connection.configuration.maxSilence, handler)
  }

  /// Sends `bytes` whenever nothing was sent of the streaming response for `HTTPConfiguration.maxSilence`, so that proxies do not
  /// take it for dead.
  public func fillSilence(with bytes: [UInt8]) {
    loop.preconditionInLoop()
    guard let connection, response == .streaming, sendsBody, silenceTimer == nil else { return }
    let limit = connection.configuration.maxSilence
    lastWrite = .now
    silenceTimer = loop.schedule(after: limit) { [weak self] in self?.breakSilence(with: bytes, limit: limit) }
  }

  private func breakSilence(with bytes: [UInt8], limit: Duration) {
    guard let connection, response == .streaming else { return }
    if lastWrite.duration(to: .now) >= limit {
      // What the client has not taken yet is not followed by more.
      if connection.outputBytes == 0 { write(bytes) } else { lastWrite = .now }
    }
    silenceTimer?.arm(after: limit - lastWrite.duration(to: .now))
  }

  /// Closes the connection in the middle of a streaming response, so that the client notices that it is incomplete.
  public func abort() {
    loop.preconditionInLoop()
    guard let connection, response == .streaming else { return }
    connection.close()
  }

  /// Ends a streaming response. If it is shorter than announced, the connection is closed.
  public func end() {
    loop.preconditionInLoop()
    guard let connection, response == .streaming else { return }
    if sendsBody, let bytesLeft, bytesLeft > 0 { return abort() }
    if sendsBody, framing == .chunked { connection.send(Array("0\r\n\r\n".utf8)) }
    finish()
  }

  private func sendHead(status: Int, headers: HTTPHeaders, framing: HTTPResponseHead.Framing, mayKeepBody: Bool) {
    guard let connection else { return }
    beginTimer?.cancel()
    self.status = status
    // If the handler is still reading the body, `finish` decides whether the connection is kept.
    let isTakingBody = if case .consumer = sink { mayKeepBody } else { false }
    if !isTakingBody, !connection.canSkipBody(awaitingContinue: awaitsContinue) { connection.keepAlive = false }
    if framing == .untilClose || connection.server.isStopping { connection.keepAlive = false }
    self.framing = framing
    sendsBody = request.method != "HEAD" && !HTTPResponseHead.forbidsBody(status)
    var fields = defaultHeaders
    for name in Set(headers.fields.map { $0.name.lowercased() }) { fields.remove(name) }
    for (name, value) in headers.fields { fields.add(name, value) }
    let head = HTTPResponseHead(
      status: status, headers: fields, framing: framing, id: id, date: loop.httpDate(),
      server: connection.configuration.serverName, version: request.version, keepAlive: connection.keepAlive)
    connection.send(head.serialized())
  }

  private func finish() {
    guard let connection else { return }
    if !connection.canSkipBody(awaitingContinue: awaitsContinue) { connection.keepAlive = false }
    response = .ended
    silenceTimer?.cancel()
    reportEnd(isComplete: true)
    self.connection = nil
    drainHandler = nil
    closeHandler = nil
    failBody(.disconnected)
    connection.advance()
  }

  private func reportEnd(isComplete: Bool) {
    guard let onEnd else { return }
    let path = request.target.prefix { $0 != "?" }
    onEnd(
      HTTPExchangeSummary(
        id: id, method: request.method, path: String(path), status: status, isComplete: isComplete,
        duration: begin.duration(to: .now), remoteAddress: request.remoteAddress))
  }

  // MARK: For the connection

  /// Whether the handler reads the body and has not paused it.
  var takesBodyBytes: Bool {
    if case .consumer = sink { return !isBodyPaused }
    return false
  }

  func deliverBody(_ bytes: UnsafeRawBufferPointer) {
    guard case .consumer(let limit, let onChunk, _) = sink, bytes.count > 0 else { return }
    guard bytes.count <= limit - received else { return failBody(.tooLarge(limit: limit)) }
    received += bytes.count
    onChunk(bytes)
  }

  /// Reports the end of the body to the consumer, unless it has paused.
  /// - Returns: whether it was reported
  func deliverBodyEnd() -> Bool {
    guard case .consumer(_, _, let onEnd) = sink, !isBodyPaused else { return false }
    sink = .finished
    onEnd(.success(()))
    return true
  }

  func failBody(_ error: HTTPBodyError) {
    guard case .consumer(_, _, let onEnd) = sink else {
      sink = .finished
      return
    }
    sink = .finished
    onEnd(.failure(error))
  }

  /// Answers with an error of the HTTP layer.
  func refuse(_ error: HTTPProtocolError, _ reason: HTTPBodyError) {
    guard let connection else { return }
    let (contentType, bytes) = connection.configuration.errorBody(error.status, error.message)
    sendHead(
      status: error.status, headers: ["Content-Type": contentType], framing: .length(bytes.count), mayKeepBody: false)
    if sendsBody { connection.send(bytes) }
    response = .ended
    reportEnd(isComplete: true)
    self.connection = nil
    drainHandler = nil
    closeHandler = nil
    failBody(reason)
  }

  func outputDrained() {
    guard isOverHighWatermark else { return }
    isOverHighWatermark = false
    drainHandler?()
  }

  func connectionLost() {
    connection = nil
    silenceTimer?.cancel()
    beginTimer?.cancel()
    guard response != .ended else { return }
    isGone = true
    reportEnd(isComplete: false)
    let handler = closeHandler
    closeHandler = nil
    drainHandler = nil
    failBody(.disconnected)
    handler?()
  }
}

extension [UInt8] {
  /// Appends a chunk of a chunked body (RFC 9112, section 7.1). `bytes` must not be empty.
  fileprivate mutating func appendChunk(_ bytes: UnsafeRawBufferPointer) {
    let digits = (Int.bitWidth - bytes.count.leadingZeroBitCount + 3) / 4
    for position in (0..<digits).reversed() {
      let digit = UInt8(truncatingIfNeeded: bytes.count >> (4 * position)) & 15
      append(digit + (digit < 10 ? UInt8(ascii: "0") : UInt8(ascii: "a") - 10))
    }
    append(0x0D)
    append(0x0A)
    append(contentsOf: bytes)
    append(0x0D)
    append(0x0A)
  }
}
