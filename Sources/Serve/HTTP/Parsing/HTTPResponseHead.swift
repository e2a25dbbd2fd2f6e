/// A response's status line and header fields, and how its body ends.
struct HTTPResponseHead {
  enum Framing: Equatable {
    case length(Int)
    case chunked
    /// The body ends with the connection.
    case untilClose
  }

  var status: Int
  /// Fields among these that the HTTP layer sets itself are ignored.
  var headers: HTTPHeaders
  var framing: Framing
  var id: String
  var date: String
  var server: String
  var version: HTTPVersion
  var keepAlive: Bool

  /// Fields that only the HTTP layer sets.
  private static let reserved: Set<String> = [
    "content-length", "transfer-encoding", "connection", "keep-alive", "date", "server", "x-request-id", "trailer",
  ]

  /// Statuses that never have a body (RFC 9110, section 6.4.1).
  static func forbidsBody(_ status: Int) -> Bool { status == 204 || status == 304 || (100..<200).contains(status) }

  func serialized() -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(512)
    bytes += "HTTP/1.1 \(min(max(status, 100), 999)) \(reasonPhrase(status))\r\n".utf8
    func field(_ name: String, _ value: String) {
      bytes += name.utf8
      bytes += ": ".utf8
      // A line break in a value would begin another field, or another response.
      bytes += value.utf8.lazy.map { $0 < 0x20 || $0 == 0x7F ? 0x20 : $0 }
      bytes += "\r\n".utf8
    }
    field("Server", server)
    field("Date", date)
    for (name, value) in headers.fields
    where !Self.reserved.contains(name.lowercased()) && !name.isEmpty && name.utf8.allSatisfy(isToken) {
      field(name, value)
    }
    field("x-request-id", id)
    if !Self.forbidsBody(status) {
      switch framing {
      case .length(let count): field("Content-Length", "\(count)")
      case .chunked: field("Transfer-Encoding", "chunked")
      case .untilClose: break
      }
    }
    if !keepAlive {
      field("Connection", "close")
    } else if version == .http1_0 {
      field("Connection", "keep-alive")
    }
    bytes += "\r\n".utf8
    return bytes
  }
}

/// Identifies a request in its response and in the log.
enum RequestID {
  /// "req_" and 24 random hexadecimal digits.
  static func make() -> String {
    // The additional first digit, which is dropped, keeps leading zeros.
    func twelve() -> Substring { String(UInt64.random(in: 1 << 48..<2 << 48), radix: 16).dropFirst() }
    return "req_\(twelve())\(twelve())"
  }

  /// The client's own id if it is 1 to 128 printable ASCII characters without spaces.
  static func accepted(_ text: String?) -> String? {
    guard let text, (1...128).contains(text.utf8.count), text.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
      return nil
    }
    return text
  }
}
