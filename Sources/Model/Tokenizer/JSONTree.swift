/// A JSON document (RFC 8259) whose objects keep every member in order.
///
/// Vocabularies need this rather than a dictionary of strings: Swift's strings are equal when they are
/// canonically equivalent, so "é" and "e" + U+0301, which are two tokens, would be one key.
enum JSONTree: Sendable {
  case null
  case bool(Bool)
  case number(Double)
  case string(String)
  case array([JSONTree])
  case object([Member])

  struct Member: Sendable {
    let key: String
    let value: JSONTree
  }

  /// The member of this name, the last one if there are several; `nil` for none, `null`, or no object.
  subscript(key: StaticString) -> JSONTree? {
    guard case .object(let members) = self else { return nil }
    let name = key.description
    guard let value = members.last(where: { $0.key.utf8.elementsEqual(name.utf8) })?.value else { return nil }
    if case .null = value { return nil }
    return value
  }

  var string: String? { if case .string(let value) = self { value } else { nil } }
  var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  var array: [JSONTree]? { if case .array(let value) = self { value } else { nil } }
  var members: [Member]? { if case .object(let value) = self { value } else { nil } }
  /// A number that is a whole, non-negative token id.
  var tokenID: Int32? {
    guard case .number(let value) = self, value >= 0 else { return nil }
    return Int32(exactly: value)
  }
}

/// Where and why a text is no JSON.
struct JSONSyntaxError: Error {
  let offset: Int
  let reason: String
}

extension JSONTree {
  /// Parses a whole document.
  init(_ bytes: UnsafeBufferPointer<UInt8>) throws(JSONSyntaxError) {
    var parser = JSONParser(bytes: bytes)
    self = try parser.document()
  }
}

/// Recursive descent, bounded by `maximumDepth`.
private struct JSONParser {
  static let maximumDepth = 64

  let bytes: UnsafeBufferPointer<UInt8>
  var position = 0
  var scratch: [UInt8] = []

  init(bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

  mutating func document() throws(JSONSyntaxError) -> JSONTree {
    if bytes.count >= 3, bytes[0] == 0xEF, bytes[1] == 0xBB, bytes[2] == 0xBF { position = 3 }
    let value = try value(depth: 0)
    skipWhitespace()
    if position < bytes.count { throw failure("text after the document") }
    return value
  }

  func failure(_ reason: String) -> JSONSyntaxError { JSONSyntaxError(offset: position, reason: reason) }

  /// The byte at `position`, 0 at the end (a NUL is no token of JSON's, so it fails like the end does).
  var current: UInt8 { position < bytes.count ? bytes[position] : 0 }

  mutating func skipWhitespace() {
    while position < bytes.count {
      switch bytes[position] {
      case 0x20, 0x0A, 0x0D, 0x09: position += 1
      default: return
      }
    }
  }

  mutating func expect(_ byte: UInt8) throws(JSONSyntaxError) {
    guard current == byte else { throw failure("'\(Character(Unicode.Scalar(byte)))' expected") }
    position += 1
  }

  mutating func value(depth: Int) throws(JSONSyntaxError) -> JSONTree {
    if depth > Self.maximumDepth { throw failure("nested more than \(Self.maximumDepth) deep") }
    skipWhitespace()
    switch current {
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "{"): return try object(depth: depth)
    case UInt8(ascii: "["): return try array(depth: depth)
    case UInt8(ascii: "t"): return try word("true", .bool(true))
    case UInt8(ascii: "f"): return try word("false", .bool(false))
    case UInt8(ascii: "n"): return try word("null", .null)
    default: return try number()
    }
  }

  mutating func word(_ text: StaticString, _ value: JSONTree) throws(JSONSyntaxError) -> JSONTree {
    for byte in text.description.utf8 { try expect(byte) }
    return value
  }

  mutating func object(depth: Int) throws(JSONSyntaxError) -> JSONTree {
    var members: [JSONTree.Member] = []
    position += 1
    skipWhitespace()
    if current == UInt8(ascii: "}") {
      position += 1
      return .object(members)
    }
    while true {
      skipWhitespace()
      guard current == UInt8(ascii: "\"") else { throw failure("a member's name expected") }
      let key = try string()
      skipWhitespace()
      try expect(UInt8(ascii: ":"))
      members.append(JSONTree.Member(key: key, value: try value(depth: depth + 1)))
      skipWhitespace()
      if current == UInt8(ascii: ",") {
        position += 1
        continue
      }
      try expect(UInt8(ascii: "}"))
      return .object(members)
    }
  }

  mutating func array(depth: Int) throws(JSONSyntaxError) -> JSONTree {
    var elements: [JSONTree] = []
    position += 1
    skipWhitespace()
    if current == UInt8(ascii: "]") {
      position += 1
      return .array(elements)
    }
    while true {
      elements.append(try value(depth: depth + 1))
      skipWhitespace()
      if current == UInt8(ascii: ",") {
        position += 1
        continue
      }
      try expect(UInt8(ascii: "]"))
      return .array(elements)
    }
  }

  mutating func number() throws(JSONSyntaxError) -> JSONTree {
    let start = position
    var integer = 0
    while position < bytes.count, position - start < 15, case 0x30...0x39 = bytes[position] {
      integer = integer * 10 + Int(bytes[position] - 0x30)
      position += 1
    }
    switch current {
    case 0x30...0x39, UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "e"), UInt8(ascii: "E"):
      break
    default:
      if position > start { return .number(Double(integer)) }
    }
    while position < bytes.count {
      switch bytes[position] {
      case 0x30...0x39, UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "e"), UInt8(ascii: "E"):
        position += 1
        continue
      default: break
      }
      break
    }
    guard position - start < 400, let value = Double(String(decoding: bytes[start..<position], as: UTF8.self)) else {
      position = start
      throw failure("a value expected")
    }
    return .number(value)
  }

  mutating func string() throws(JSONSyntaxError) -> String {
    position += 1
    let start = position
    while position < bytes.count {
      switch bytes[position] {
      case UInt8(ascii: "\""):
        let run = UnsafeBufferPointer(rebasing: bytes[start..<position])
        position += 1
        return try text(run)
      case UInt8(ascii: "\\"): return try escapedString(from: start)
      case 0..<0x20: throw failure("a control character in a string")
      default: position += 1
      }
    }
    throw failure("a string without its end")
  }

  func text(_ run: UnsafeBufferPointer<UInt8>) throws(JSONSyntaxError) -> String {
    guard let text = String(validating: run, as: UTF8.self) else { throw failure("a string that is not UTF-8") }
    return text
  }

  mutating func escapedString(from start: Int) throws(JSONSyntaxError) -> String {
    scratch.removeAll(keepingCapacity: true)
    scratch.append(contentsOf: bytes[start..<position])
    while position < bytes.count {
      let byte = bytes[position]
      position += 1
      if byte == UInt8(ascii: "\"") {
        guard let text = String(validating: scratch, as: UTF8.self) else {
          throw failure("a string that is not UTF-8")
        }
        return text
      }
      if byte < 0x20 { throw failure("a control character in a string") }
      guard byte == UInt8(ascii: "\\") else {
        scratch.append(byte)
        continue
      }
      let escape = current
      position += 1
      switch escape {
      case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): scratch.append(escape)
      case UInt8(ascii: "b"): scratch.append(0x08)
      case UInt8(ascii: "f"): scratch.append(0x0C)
      case UInt8(ascii: "n"): scratch.append(0x0A)
      case UInt8(ascii: "r"): scratch.append(0x0D)
      case UInt8(ascii: "t"): scratch.append(0x09)
      case UInt8(ascii: "u"): scratch.append(contentsOf: Array(String(try scalar()).utf8))
      default: throw failure("an unknown escape in a string")
      }
    }
    throw failure("a string without its end")
  }

  /// The scalar of `\uXXXX`, or of a surrogate pair of them; a surrogate alone is refused.
  mutating func scalar() throws(JSONSyntaxError) -> Character {
    var code = try fourHexDigits()
    if (0xD800..<0xDC00).contains(code) {
      guard current == UInt8(ascii: "\\") else { throw failure("half a surrogate pair") }
      position += 1
      try expect(UInt8(ascii: "u"))
      let low = try fourHexDigits()
      guard (0xDC00..<0xE000).contains(low) else { throw failure("half a surrogate pair") }
      code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
    }
    guard let scalar = Unicode.Scalar(code) else { throw failure("half a surrogate pair") }
    return Character(scalar)
  }

  mutating func fourHexDigits() throws(JSONSyntaxError) -> UInt32 {
    var code: UInt32 = 0
    for _ in 0..<4 {
      guard let digit = Character(Unicode.Scalar(current)).hexDigitValue else {
        throw failure("four hex digits expected")
      }
      code = code << 4 | UInt32(digit)
      position += 1
    }
    return code
  }
}
