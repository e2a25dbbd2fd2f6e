internal import CLibevent

/// What is still to come of a request's body.
enum HTTPBodyState: Equatable {
  case complete
  case length(remaining: Int)
  case chunked(ChunkedDecoder)
}

extension HTTPConnection {
  /// Unread bodies up to this length are skipped to keep the connection; for longer ones it is closed.
  private static let discardableBytes = 64 << 10

  // MARK: Head

  /// Parses the next head, if it is there, and hands its exchange to the handler.
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
    // A lone carriage return may be the first half of an empty line.
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
      // Joined in growing pieces, so that a short head before a long body copies little.
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

  /// Whether body bytes should be read from the socket now.
  var isBodyWanted: Bool {
    guard let exchange, body != .complete else { return false }
    if exchange.isEnded { return keepAlive }
    return exchange.takesBodyBytes
  }

  /// Whether the unread rest of the body is short enough, and sure enough to come, to be skipped.
  func canSkipBody(awaitingContinue: Bool) -> Bool {
    switch body {
    case .complete: true
    case .length(let remaining): !awaitingContinue && remaining <= Self.discardableBytes
    case .chunked: false
    }
  }

  /// Hands on, or skips, body bytes that are there.
  /// - Returns: whether anything moved.
  func moveBody() -> Bool {
    guard let exchange else { return false }
    if body == .complete { return exchange.deliverBodyEnd() }
    guard isBodyWanted else { return false }
    let count = evbuffer_get_contiguous_space(input)
    guard count > 0, let bytes = evbuffer_pullup(input, count) else { return false }
    let view = UnsafeRawBufferPointer(start: bytes, count: count)
    do throws(HTTPProtocolError) {
      let used = try take(view, for: exchange)
      // The callback may have closed the connection; its buffers live until the end of `advance`.
      evbuffer_drain(input, used)
      return used > 0 && phase == .exchange
    } catch {
      bodyFailed(.malformed(error.message), error)
      return false
    }
  }

  /// One piece of the body out of `view`.
  private func take(_ view: UnsafeRawBufferPointer, for exchange: HTTPExchange) throws(HTTPProtocolError) -> Int {
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

  /// Answers a request that never became an exchange, and closes.
  func refuse(_ error: HTTPProtocolError) {
    let (contentType, bytes) = configuration.errorBody(error.status, error.message)
    let head = HTTPResponseHead(
      status: error.status, headers: ["Content-Type": contentType], framing: .length(bytes.count), id: RequestID.make(),
      date: loop.httpDate(), server: configuration.serverName, version: .http1_1, keepAlive: false)
    send(head.serialized())
    send(bytes)
    beginClosing()
  }

  /// The body cannot be read to its end: answers in the handler's place if it has not begun to, and closes.
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
