/// Parses a request's head, strictly by RFC 9112. It refuses everything that could make two parsers disagree on where a
/// request ends: bare line feeds, folded lines, spaces before colons, repeated framing fields.
struct HTTPRequestParser {
  struct Limits {
    var requestLineBytes: Int
    var headerBytes: Int
    var headerCount: Int
  }

  /// How the end of the body is determined (RFC 9112, section 6.3).
  enum Framing: Equatable {
    case none
    case length(Int)
    case chunked
  }

  struct Head {
    var request: HTTPRequestHead
    var framing: Framing
    /// Whether the client wants to send further requests on the connection.
    var keepAlive: Bool
    /// Whether the client waits for `100 Continue`.
    var expectsContinue: Bool
  }

  let limits: Limits
  /// Bytes that were searched for the end of the head, so that none is searched twice.
  private var scanned = 0
  private var lineStart = 0
  private var requestLineEnd: Int?

  init(limits: Limits) { self.limits = limits }

  /// Searches for the end of the head.
  /// - Parameter input: all bytes of the request that were received, with those of earlier calls
  /// - Returns: the head's length with its empty line; `nil` while that was not received
  mutating func findEnd(_ input: UnsafeRawBufferPointer) throws(HTTPProtocolError) -> Int? {
    let available = min(input.count, limits.headerBytes)
    if scanned == 0, available > 0, !isToken(input[0]) { throw HTTPProtocolError(400, "malformed request line") }
    while scanned < available {
      let position = scanned
      scanned += 1
      guard input[position] == UInt8(ascii: "\n") else {
        if requestLineEnd == nil, scanned > limits.requestLineBytes {
          throw HTTPProtocolError(414, "request line is longer than \(limits.requestLineBytes) bytes")
        }
        continue
      }
      guard position > lineStart, input[position - 1] == UInt8(ascii: "\r") else {
        throw HTTPProtocolError(400, "line feed without carriage return in the header")
      }
      if position - 1 == lineStart { return scanned }
      if requestLineEnd == nil { requestLineEnd = position - 1 }
      lineStart = scanned
    }
    if input.count >= limits.headerBytes {
      throw HTTPProtocolError(431, "header is longer than \(limits.headerBytes) bytes")
    }
    return nil
  }

  /// Whether `findEnd` has had bytes since the last `reset`.
  var hasStarted: Bool { scanned > 0 }

  /// Prepares for the next request.
  mutating func reset() { self = HTTPRequestParser(limits: limits) }

  /// Parses a head that `findEnd` found.
  func parse(
    _ head: UnsafeRawBufferPointer, remoteAddress: String
  ) throws(HTTPProtocolError) -> Head {
    var rest = head[...]
    let requestLine = takeLine(&rest)
    let (method, target, version) = try parseRequestLine(requestLine)
    let headers = try parseFields(rest)
    let parts = try HTTPTarget(target)
    let request = HTTPRequestHead(
      method: method, target: target, path: parts.path, rawQuery: parts.rawQuery, queryItems: parts.queryItems,
      headers: headers, version: version, remoteAddress: remoteAddress)
    try checkHost(request)
    let framing = try framing(request)
    let connection = headers.list("connection")
    let keepAlive =
      version == .http1_1
      ? !connection.contains { equalIgnoringCase($0, "close") }
      : connection.contains { equalIgnoringCase($0, "keep-alive") }
    return Head(
      request: request, framing: framing, keepAlive: keepAlive, expectsContinue: try expectsContinue(request, framing))
  }

  // MARK: Lines

  /// Removes the first line.
  private func takeLine(_ rest: inout Slice<UnsafeRawBufferPointer>) -> Slice<UnsafeRawBufferPointer> {
    let end = rest.firstIndex(of: UInt8(ascii: "\n")) ?? rest.endIndex
    let line = rest[..<end].dropLast()
    rest = rest[min(end + 1, rest.endIndex)...]
    return line
  }

  private func parseRequestLine(
    _ line: Slice<UnsafeRawBufferPointer>
  ) throws(HTTPProtocolError) -> (String, String, HTTPVersion) {
    let parts = line.split(separator: UInt8(ascii: " "), maxSplits: 3, omittingEmptySubsequences: false)
    guard parts.count == 3, !parts[0].isEmpty, parts[0].count <= 32, parts[0].allSatisfy(isToken), !parts[1].isEmpty,
      parts[1].allSatisfy({ (0x21...0x7E).contains($0) })
    else { throw HTTPProtocolError(400, "malformed request line") }
    let version = Array(parts[2])
    guard version.count == 8, version.starts(with: "HTTP/".utf8), version[6] == UInt8(ascii: "."),
      (0x30...0x39).contains(version[5]), (0x30...0x39).contains(version[7])
    else { throw HTTPProtocolError(400, "malformed request line") }
    guard version[5] == UInt8(ascii: "1") else {
      throw HTTPProtocolError(505, "\(String(decoding: version, as: UTF8.self)) is not supported, HTTP/1.1 is")
    }
    // A higher minor version of 1 is read as 1.1 (RFC 9110, section 2.5).
    return (
      String(decoding: parts[0], as: UTF8.self), String(decoding: parts[1], as: UTF8.self),
      version[7] == UInt8(ascii: "0") ? .http1_0 : .http1_1
    )
  }

  /// Reads field lines up to the empty line.
  private func parseFields(_ lines: Slice<UnsafeRawBufferPointer>) throws(HTTPProtocolError) -> HTTPHeaders {
    var rest = lines
    var fields: [(name: String, value: String)] = []
    while true {
      let line = takeLine(&rest)
      guard let first = line.first else { return HTTPHeaders(fields) }
      guard fields.count < limits.headerCount else {
        throw HTTPProtocolError(431, "more than \(limits.headerCount) header fields")
      }
      guard first != 0x20, first != 0x09 else { throw HTTPProtocolError(400, "folded header line") }
      guard let colon = line.firstIndex(of: UInt8(ascii: ":")), colon > line.startIndex,
        line[..<colon].allSatisfy(isToken)
      else { throw HTTPProtocolError(400, "malformed header name") }
      let value = line[(colon + 1)...]
      guard value.allSatisfy({ $0 == 0x09 || ($0 >= 0x20 && $0 != 0x7F) }) else {
        throw HTTPProtocolError(
          400, "control character in the header \(String(decoding: line[..<colon], as: UTF8.self))")
      }
      fields.append(
        (String(decoding: line[..<colon], as: UTF8.self), trimmedOptionalSpace(String(decoding: value, as: UTF8.self))))
    }
  }

  // MARK: Fields

  private func checkHost(_ request: HTTPRequestHead) throws(HTTPProtocolError) {
    let hosts = request.headers.values("host")
    guard hosts.count <= 1 else { throw HTTPProtocolError(400, "more than one Host header") }
    guard let host = hosts.first else {
      if request.version == .http1_0 { return }
      throw HTTPProtocolError(400, "Host header is missing")
    }
    guard host.utf8.allSatisfy({ isToken($0) || ":[](),;=@".utf8.contains($0) }), !host.utf8.contains(UInt8(ascii: "@"))
    else { throw HTTPProtocolError(400, "malformed Host header") }
  }

  private func framing(_ request: HTTPRequestHead) throws(HTTPProtocolError) -> Framing {
    let lengths = request.headers.values("content-length")
    let codings = request.headers.values("transfer-encoding")
    if !codings.isEmpty {
      guard lengths.isEmpty else { throw HTTPProtocolError(400, "both Content-Length and Transfer-Encoding") }
      guard request.version == .http1_1 else {
        throw HTTPProtocolError(400, "Transfer-Encoding in an HTTP/1.0 request")
      }
      let names = request.headers.list("transfer-encoding")
      guard names.allSatisfy({ equalIgnoringCase($0, "chunked") }) else {
        throw HTTPProtocolError(501, "transfer coding other than chunked")
      }
      guard names.count == 1, codings.count == 1 else { throw HTTPProtocolError(400, "malformed Transfer-Encoding") }
      return .chunked
    }
    guard let length = lengths.first else { return .none }
    guard lengths.allSatisfy({ $0 == length }) else { throw HTTPProtocolError(400, "differing Content-Length headers") }
    guard !length.isEmpty, length.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let count = Int(length) else {
      throw HTTPProtocolError(400, "malformed Content-Length")
    }
    return count == 0 ? .none : .length(count)
  }

  private func expectsContinue(_ request: HTTPRequestHead, _ framing: Framing) throws(HTTPProtocolError) -> Bool {
    let expectations = request.headers.list("expect")
    guard !expectations.isEmpty, request.version == .http1_1 else { return false }
    guard expectations.allSatisfy({ equalIgnoringCase($0, "100-continue") }) else {
      throw HTTPProtocolError(417, "expectation other than 100-continue")
    }
    return framing != .none
  }
}

/// A character of RFC 9110's `token`.
func isToken(_ byte: UInt8) -> Bool {
  switch byte {
  case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
  case 0x21, 0x23...0x27, 0x2A, 0x2B, 0x2D, 0x2E, 0x5E, 0x5F, 0x60, 0x7C, 0x7E: true
  default: false
  }
}
