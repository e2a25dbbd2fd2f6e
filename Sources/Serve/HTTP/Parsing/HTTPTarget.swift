/// The parts of a request target (RFC 9112, section 3.2; RFC 3986).
struct HTTPTarget {
  var path: [String]
  var rawQuery: String
  var queryItems: [(name: String, value: String)]

  /// - Parameter target: printable ASCII; the request line's parser has checked that
  /// - Throws: a 400 that names the wrong part
  init(_ target: String) throws(HTTPProtocolError) {
    let bytes = Array(target.utf8)
    let origin = try Self.originForm(bytes)
    let question = origin.firstIndex(of: UInt8(ascii: "?")) ?? origin.endIndex
    let rawPath = origin[..<question]
    let query = question == origin.endIndex ? [] : origin[(question + 1)...]
    guard !origin.contains(UInt8(ascii: "#")) else { throw HTTPProtocolError(400, "fragment in the request target") }

    path = []
    // "/" alone has no segments.
    if rawPath.count > 1 {
      for segment in rawPath.dropFirst().split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false) {
        path.append(try Self.decode(segment, plusIsSpace: false, in: "path"))
      }
    }
    rawQuery = String(decoding: query, as: UTF8.self)
    queryItems = []
    for pair in query.split(separator: UInt8(ascii: "&")) {
      let equals = pair.firstIndex(of: UInt8(ascii: "=")) ?? pair.endIndex
      let value = equals == pair.endIndex ? [] : pair[(equals + 1)...]
      queryItems.append(
        (
          try Self.decode(pair[..<equals], plusIsSpace: true, in: "query"),
          try Self.decode(value, plusIsSpace: true, in: "query")
        ))
    }
  }

  /// The target without scheme and authority; empty for "*".
  private static func originForm(_ target: [UInt8]) throws(HTTPProtocolError) -> ArraySlice<UInt8> {
    if target.first == UInt8(ascii: "/") { return target[...] }
    if target == [UInt8(ascii: "*")] { return [] }
    for scheme in ["http://", "https://"] {
      guard target.count > scheme.utf8.count, target.prefix(scheme.utf8.count).map(lowercased) == Array(scheme.utf8)
      else { continue }
      let rest = target[scheme.utf8.count...]
      guard let start = rest.firstIndex(where: { $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "?") }) else {
        return []
      }
      // In an absolute form the query may follow the authority; the path is then "/".
      return rest[start] == UInt8(ascii: "/") ? rest[start...] : [UInt8(ascii: "/")] + rest[start...]
    }
    throw HTTPProtocolError(400, "request target is neither a path nor an http URL")
  }

  private static func decode(
    _ bytes: ArraySlice<UInt8>, plusIsSpace: Bool, in part: String
  ) throws(HTTPProtocolError) -> String {
    var decoded: [UInt8] = []
    decoded.reserveCapacity(bytes.count)
    var rest = bytes
    while let byte = rest.popFirst() {
      if byte == UInt8(ascii: "%") {
        guard let high = rest.popFirst().flatMap(hexValue), let low = rest.popFirst().flatMap(hexValue) else {
          throw HTTPProtocolError(400, "malformed percent-encoding in the \(part)")
        }
        decoded.append(high << 4 | low)
      } else {
        decoded.append(plusIsSpace && byte == UInt8(ascii: "+") ? 0x20 : byte)
      }
    }
    guard !decoded.contains(0), let text = String(validating: decoded, as: UTF8.self) else {
      throw HTTPProtocolError(400, "the \(part) is not UTF-8 text")
    }
    return text
  }
}

/// The value of a hexadecimal digit.
func hexValue(_ byte: UInt8) -> UInt8? {
  switch byte {
  case 0x30...0x39: byte - 0x30
  case 0x41...0x46: byte - 0x41 + 10
  case 0x61...0x66: byte - 0x61 + 10
  default: nil
  }
}
