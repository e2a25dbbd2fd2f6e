/// Header fields in order. Several fields may have the same name; names are compared without case.
public struct HTTPHeaders: Sendable, Equatable, ExpressibleByDictionaryLiteral {
  /// The fields in the order and spelling in which they were sent.
  public private(set) var fields: [(name: String, value: String)]

  /// - Parameter fields: in their order
  public init(_ fields: [(name: String, value: String)] = []) { self.fields = fields }

  /// The fields of a literal, in their order.
  public init(dictionaryLiteral elements: (String, String)...) {
    fields = elements.map { (name: $0.0, value: $0.1) }
  }

  /// The first value of that name.
  public subscript(name: String) -> String? {
    fields.first { equalIgnoringCase($0.name, name) }?.value
  }

  /// All values of that name, in order.
  public func values(_ name: String) -> [String] {
    fields.lazy.filter { equalIgnoringCase($0.name, name) }.map(\.value)
  }

  /// The comma-separated members of all fields of that name, trimmed; empty members are left out.
  public func list(_ name: String) -> [String] {
    values(name).flatMap { $0.utf8.split(separator: UInt8(ascii: ",")) }
      .map { trimmedOptionalSpace(String(Substring($0))) }.filter { !$0.isEmpty }
  }

  /// Adds a field at the end.
  public mutating func add(_ name: String, _ value: String) { fields.append((name, value)) }

  /// Replaces all fields of that name.
  public mutating func set(_ name: String, _ value: String) {
    remove(name)
    add(name, value)
  }

  /// Removes all fields of that name.
  public mutating func remove(_ name: String) { fields.removeAll { equalIgnoringCase($0.name, name) } }

  /// Whether both have the same fields in the same order.
  public static func == (left: HTTPHeaders, right: HTTPHeaders) -> Bool {
    left.fields.elementsEqual(right.fields) { $0 == $1 }
  }
}

/// A request without its body, checked against RFC 9110 and RFC 9112.
public struct HTTPRequestHead: Sendable {
  /// The method as sent; methods are case-sensitive.
  public var method: String
  /// The request target as sent.
  public var target: String
  /// The path's segments, split at "/" and then percent-decoded: none for "/", and an empty last one after a trailing
  /// slash. Segments of dots are not resolved.
  public var path: [String]
  /// The target after the first "?", not decoded; empty without a query.
  public var rawQuery: String
  /// The query's pairs in order, percent-decoded, with "+" for a space. A key without "=" has an empty value.
  public var queryItems: [(name: String, value: String)]
  /// The header fields.
  public var headers: HTTPHeaders
  /// 1.1 or 1.0.
  public var version: HTTPVersion
  /// The client's numeric address, without the port.
  public var remoteAddress: String
}

/// The HTTP versions this server speaks.
public enum HTTPVersion: String, Sendable, Comparable {
  /// HTTP/1.0
  case http1_0 = "HTTP/1.0"
  /// HTTP/1.1
  case http1_1 = "HTTP/1.1"

  /// 1.0 is before 1.1.
  public static func < (left: HTTPVersion, right: HTTPVersion) -> Bool { left == .http1_0 && right == .http1_1 }
}

/// Why a request's body was not received completely.
public enum HTTPBodyError: Error, Equatable, Sendable {
  /// It is longer than `limit` bytes. The handler has to answer, usually with 413.
  case tooLarge(limit: Int)
  /// It is no valid chunked coding. The HTTP layer has answered 400.
  case malformed(String)
  /// No byte was received within `HTTPConfiguration.stallTimeout`, or too few on average. The HTTP layer has answered 408.
  case timedOut
  /// The bodies in memory fill `HTTPConfiguration.maxBodyMemory`. The HTTP layer has answered 503.
  case outOfMemory
  /// The client left, or the response ended before the body.
  case disconnected
}

/// An error that the HTTP layer answers itself.
struct HTTPProtocolError: Error, Equatable {
  var status: Int
  var message: String

  init(_ status: Int, _ message: String) {
    self.status = status
    self.message = message
  }
}

/// The reason phrase of a status code (RFC 9110, section 15; RFC 6585).
func reasonPhrase(_ status: Int) -> String {
  switch status {
  case 100: "Continue"
  case 200: "OK"
  case 201: "Created"
  case 202: "Accepted"
  case 204: "No Content"
  case 206: "Partial Content"
  case 301: "Moved Permanently"
  case 302: "Found"
  case 303: "See Other"
  case 304: "Not Modified"
  case 307: "Temporary Redirect"
  case 308: "Permanent Redirect"
  case 400: "Bad Request"
  case 401: "Unauthorized"
  case 403: "Forbidden"
  case 404: "Not Found"
  case 405: "Method Not Allowed"
  case 406: "Not Acceptable"
  case 408: "Request Timeout"
  case 409: "Conflict"
  case 410: "Gone"
  case 411: "Length Required"
  case 412: "Precondition Failed"
  case 413: "Content Too Large"
  case 414: "URI Too Long"
  case 415: "Unsupported Media Type"
  case 416: "Range Not Satisfiable"
  case 417: "Expectation Failed"
  case 422: "Unprocessable Content"
  case 429: "Too Many Requests"
  case 431: "Request Header Fields Too Large"
  case 499: "Client Closed Request"
  case 500: "Internal Server Error"
  case 501: "Not Implemented"
  case 502: "Bad Gateway"
  case 503: "Service Unavailable"
  case 504: "Gateway Timeout"
  case 505: "HTTP Version Not Supported"
  case 507: "Insufficient Storage"
  default: "Status"
  }
}

/// Compares ASCII text without case.
func equalIgnoringCase(_ left: String, _ right: String) -> Bool {
  left.utf8.count == right.utf8.count && zip(left.utf8, right.utf8).allSatisfy { lowercased($0) == lowercased($1) }
}

func lowercased(_ byte: UInt8) -> UInt8 { (0x41...0x5A).contains(byte) ? byte | 0x20 : byte }

/// The text without the spaces and tabs around it.
func trimmedOptionalSpace(_ text: String) -> String {
  let isSpace = { (byte: UInt8) in byte == 0x20 || byte == 0x09 }
  let start = text.utf8.drop(while: isSpace)
  guard let last = start.lastIndex(where: { !isSpace($0) }) else { return "" }
  return String(Substring(start[...last]))
}

/// The IMF-fixdate of RFC 9110, section 5.6.7: "Sun, 06 Nov 1994 08:49:37 GMT", independent of the locale.
/// - Parameter seconds: since 1970; not negative
func formatHTTPDate(_ seconds: Int) -> String {
  let weekdays = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]
  let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
  func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
  let (days, time) = max(0, seconds).quotientAndRemainder(dividingBy: 86400)
  // Years are counted from March, so that the leap day is the last day. 400 years have 146,097 days.
  let shifted = days + 719_468
  let (era, dayOfEra) = shifted.quotientAndRemainder(dividingBy: 146_097)
  let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
  let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
  let monthFromMarch = (5 * dayOfYear + 2) / 153
  let day = dayOfYear - (153 * monthFromMarch + 2) / 5 + 1
  let month = (monthFromMarch + 2) % 12
  let year = era * 400 + yearOfEra + (month < 2 ? 1 : 0)
  let clock = "\(two(time / 3600)):\(two(time / 60 % 60)):\(two(time % 60))"
  return "\(weekdays[days % 7]), \(two(day)) \(months[month]) \(year) \(clock) GMT"
}
