internal import CLibevent

/// What of a request's body was not received yet.
enum HTTPBodyState: Equatable {
  case complete
  case length(remaining: Int)
  case chunked(ChunkedDecoder)
}

/// Reading of heads and bodies.
extension HTTPConnection {
  /// An unread body of up to so many bytes is skipped, and the connection is kept; for a longer one it is closed.
  private static let discardableBytes = 64 << 10

  // MARK: Head

  /// Parses the next head, if it was received completely, and hands its exchange to the handler.
  /// - Returns: whether there was one
  func readHead() -> Bool {
    do throws(HTTPProtocolError) {
      guard let head = try nextHead() else { return false }
      begin(head)
      return true
    } catch {
      refuse(error)
      return false
    }
  }

  private func nextHead() throws(HTTPProtocolError) -> HTTPRequestParser.Head? {
    skipEmptyLines()
    let length = evbuffer_get_length(input)
    // A single carriage return may be the first half of an empty line.
    guard length > 0, length > 1 || firstByte() != UInt8(ascii: "\r") else { return nil }
    let bound = min(length, configuration.maxHeaderBytes)
    var window = min(evbuffer_get_contiguous_space(input), bound)
    while true {
      guard let bytes = evbuffer_pullup(input, window) else { throw HTTPProtocolError(500, "out of memory") }
      let view = UnsafeRawBufferPointer(start: bytes, count: window)
      if let end = try parser.findEnd(view) {
        let head = try parser.parse(UnsafeRawBufferPointer(rebasing: view[..<end]), remoteAddress: remoteAddress)
        evbuffer_drain(input, end)
        parser.reset()
        return head
      }
      guard window < bound else { return nil }
      // Made contiguous in growing steps, so that little is copied for a short head before a long body.
      window = min(bound, max(window * 2, 4096))
    }
  }

  private func firstByte() -> UInt8? { evbuffer_pullup(input, 1)?.pointee }

  /// Empty lines before a request line are skipped (RFC 9112, section 2.2).
  private func skipEmptyLines() {
    guard !parser.hasStarted else { return }
    while evbuffer_get_length(input) >= 2, let bytes = evbuffer_pullup(input, 2),
      bytes[0] == UInt8(ascii: "\r"), bytes[1] == UInt8(ascii: "\n")
    {
      evbuffer_drain(input, 2)
    }
  }

  private func begin(_ head: HTTPRequestParser.Head) {
    keepAlive = head.keepAlive
    switch head.framing {
    case .none: body = .complete
    case .length(let count): body = .length(remaining: count)
    case .chunked: body = .chunked(ChunkedDecoder())
    }
    bodyPace = BodyPace()
    let exchange = HTTPExchange(connection: self, head: head)
    self.exchange = exchange
    phase = .exchange
    server.handler(exchange)
  }

  // MARK: Body

  /// Whether to read body bytes from the socket now.
  var isBodyWanted: Bool {
    guard let exchange, body != .complete else { return false }
    if exchange.isEnded { return keepAlive }
    return exchange.takesBodyBytes
  }

  /// Whether the unread rest of the body can be skipped: it is short, and the client certainly sends it.
  func canSkipBody(awaitingContinue: Bool) -> Bool {
    switch body {
    case .complete: true
    case .length(let remaining): !awaitingContinue && remaining <= Self.discardableBytes
    case .chunked: false
    }
  }

  /// Delivers the received body bytes to the exchange, or skips them.
  /// - Returns: whether there were any
  func deliverBody() -> Bool {
    guard let exchange else { return false }
    if body == .complete { return exchange.deliverBodyEnd() }
    guard isBodyWanted else { return false }
    let count = evbuffer_get_contiguous_space(input)
    guard count > 0, let bytes = evbuffer_pullup(input, count) else { return false }
    let view = UnsafeRawBufferPointer(start: bytes, count: count)
    do throws(HTTPProtocolError) {
      let used = try deliver(view, to: exchange)
      // The callback may have closed the connection, whose buffers exist until the end of `advance`.
      evbuffer_drain(input, used)
      return used > 0 && phase == .exchange
    } catch {
      bodyFailed(.malformed(error.message), error)
      return false
    }
  }

  /// Delivers the first contiguous bytes of the body in `view`.
  /// - Returns: how many bytes of `view` were used
  private func deliver(_ view: UnsafeRawBufferPointer, to exchange: HTTPExchange) throws(HTTPProtocolError) -> Int {
    switch body {
    case .complete: return 0
    case .length(let remaining):
      let count = min(remaining, view.count)
      body = count == remaining ? .complete : .length(remaining: remaining - count)
      exchange.deliverBody(UnsafeRawBufferPointer(rebasing: view[..<count]))
      return count
    case .chunked(var decoder):
      let (event, used) = try decoder.next(view)
      body = event == .end ? .complete : .chunked(decoder)
      if case .data(let range) = event { exchange.deliverBody(UnsafeRawBufferPointer(rebasing: view[range])) }
      return used
    }
  }

  // MARK: Errors

  /// Answers a request whose head is not valid, and closes.
  func refuse(_ error: HTTPProtocolError) {
    let (contentType, bytes) = configuration.errorBody(error.status, error.message)
    let head = HTTPResponseHead(
      status: error.status, headers: ["Content-Type": contentType], framing: .length(bytes.count), id: RequestID.make(),
      date: loop.httpDate(), server: configuration.serverName, version: .http1_1, keepAlive: false)
    send(head.serialized())
    send(bytes)
    beginClosing()
  }

  /// The body cannot be read to its end: answers with `error` if the handler has not begun to answer, and closes.
  func bodyFailed(_ reason: HTTPBodyError, _ error: HTTPProtocolError) {
    guard let exchange else { return }
    keepAlive = false
    if exchange.isEnded {
      self.exchange = nil
      beginClosing()
    } else if exchange.hasBegunResponse {
      exchange.failBody(reason)
      close()
    } else {
      exchange.refuse(error, reason)
      self.exchange = nil
      beginClosing()
    }
  }
}
