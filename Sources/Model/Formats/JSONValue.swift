/// A JSON document (RFC 8259) whose objects keep the order of their keys, which PEFT's pattern matching depends on.
public enum JSONValue: Sendable, Equatable {
  case null
  case bool(Bool)
  /// A number without fraction or exponent that fits 64 bits.
  case integer(Int)
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object(JSONObject)

  public var string: String? { if case .string(let value) = self { value } else { nil } }
  public var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  public var integer: Int? { if case .integer(let value) = self { value } else { nil } }
  public var array: [JSONValue]? { if case .array(let value) = self { value } else { nil } }
  public var object: JSONObject? { if case .object(let value) = self { value } else { nil } }
  public var isNull: Bool { self == .null }

  /// Integers and fractions alike; always finite.
  public var double: Double? {
    switch self {
    case .integer(let value): Double(value)
    case .number(let value): value
    default: nil
    }
  }
}

/// Key-value pairs in the order of the text; keys are unique.
public struct JSONObject: Sendable, Equatable {
  public let pairs: [(key: String, value: JSONValue)]
  private let index: [String: Int]

  /// `nil` if a key comes twice.
  init?(_ pairs: [(key: String, value: JSONValue)]) {
    self.pairs = pairs
    var index: [String: Int] = [:]
    for (position, pair) in pairs.enumerated() where index.updateValue(position, forKey: pair.key) != nil { return nil }
    self.index = index
  }

  /// Of pairs with the same key, the first stays.
  public init(keepingFirst pairs: [(key: String, value: JSONValue)]) {
    var index: [String: Int] = [:]
    var kept: [(key: String, value: JSONValue)] = []
    for pair in pairs where index[pair.key] == nil {
      index[pair.key] = kept.count
      kept.append(pair)
    }
    self.pairs = kept
    self.index = index
  }

  public subscript(key: String) -> JSONValue? { index[key].map { pairs[$0].value } }
  public var keys: [String] { pairs.map(\.key) }
  public var isEmpty: Bool { pairs.isEmpty }

  public static func == (a: JSONObject, b: JSONObject) -> Bool {
    a.pairs.count == b.pairs.count && zip(a.pairs, b.pairs).allSatisfy { $0.key == $1.key && $0.value == $1.value }
  }
}

extension JSONValue {
  /// Parses untrusted text, in one pass and with bounds on depth and on the number of values.
  /// Throws `ModelError` with the byte offset; `subject` is what it names as the culprit.
  public static func parse(
    _ text: some Collection<UInt8>, subject: String, valueLimit: Int = 4_000_000
  ) throws -> JSONValue {
    let bytes = Array(text)
    return try bytes.withUnsafeBufferPointer { bytes in
      var parser = JSONParser(bytes: bytes, subject: subject, valuesLeft: valueLimit)
      return try parser.document()
    }
  }
}

private struct JSONParser {
  let bytes: UnsafeBufferPointer<UInt8>
  let subject: String
  var valuesLeft: Int
  var position = 0

  init(bytes: UnsafeBufferPointer<UInt8>, subject: String, valuesLeft: Int) {
    self.bytes = bytes
    self.subject = subject
    self.valuesLeft = valuesLeft
  }

  private static let depthLimit = 64

  private func failure(_ reason: String) -> ModelError {
    ModelError(subject, reason: "malformed JSON at byte \(position): \(reason)")
  }

  private var current: UInt8? { position < bytes.count ? bytes[position] : nil }

  private mutating func skipSpace() {
    while let byte = current, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { position += 1 }
  }

  private mutating func accept(_ character: Unicode.Scalar) -> Bool {
    guard current == UInt8(ascii: character) else { return false }
    position += 1
    return true
  }

  mutating func document() throws -> JSONValue {
    skipSpace()
    let value = try value(depth: 0)
    skipSpace()
    guard position == bytes.count else { throw failure("text after the document") }
    return value
  }

  private mutating func value(depth: Int) throws -> JSONValue {
    guard depth <= Self.depthLimit else { throw failure("nested more than \(Self.depthLimit) deep") }
    valuesLeft -= 1
    guard valuesLeft >= 0 else { throw failure("too many values") }
    switch current {
    case UInt8(ascii: "{"): return try object(depth: depth)
    case UInt8(ascii: "["): return try array(depth: depth)
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try literal("true", .bool(true))
    case UInt8(ascii: "f"): return try literal("false", .bool(false))
    case UInt8(ascii: "n"): return try literal("null", .null)
    case nil: throw failure("the text ends early")
    default: return try number()
    }
  }

  private mutating func literal(_ word: String, _ value: JSONValue) throws -> JSONValue {
    for byte in word.utf8 {
      guard current == byte else { throw failure("unexpected character") }
      position += 1
    }
    return value
  }

  private mutating func object(depth: Int) throws -> JSONValue {
    position += 1
    var pairs: [(key: String, value: JSONValue)] = []
    skipSpace()
    if !accept("}") {
      while true {
        skipSpace()
        guard current == UInt8(ascii: "\"") else { throw failure("a key is expected") }
        let key = try string()
        skipSpace()
        guard accept(":") else { throw failure("a colon is expected") }
        skipSpace()
        pairs.append((key, try value(depth: depth + 1)))
        skipSpace()
        if accept(",") { continue }
        guard accept("}") else { throw failure("a comma or a closing brace is expected") }
        break
      }
    }
    guard let object = JSONObject(pairs) else { throw failure("a key comes twice in the object that ends here") }
    return .object(object)
  }

  private mutating func array(depth: Int) throws -> JSONValue {
    position += 1
    var values: [JSONValue] = []
    skipSpace()
    if accept("]") { return .array(values) }
    while true {
      skipSpace()
      values.append(try value(depth: depth + 1))
      skipSpace()
      if accept(",") { continue }
      guard accept("]") else { throw failure("a comma or a closing bracket is expected") }
      return .array(values)
    }
  }

  private mutating func string() throws -> String {
    position += 1
    var text: [UInt8] = []
    while let byte = current {
      position += 1
      switch byte {
      case UInt8(ascii: "\""):
        guard let string = String(validating: text, as: UTF8.self) else { throw failure("a string is not UTF-8") }
        return string
      case UInt8(ascii: "\\"): text += Array(String(try escape()).utf8)
      case 0..<0x20: throw failure("a control character in a string")
      default: text.append(byte)
      }
    }
    throw failure("a string does not end")
  }

  private mutating func escape() throws -> Unicode.Scalar {
    guard let byte = current else { throw failure("a string does not end") }
    position += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(byte)
    case UInt8(ascii: "b"): return "\u{08}"
    case UInt8(ascii: "f"): return "\u{0C}"
    case UInt8(ascii: "n"): return "\n"
    case UInt8(ascii: "r"): return "\r"
    case UInt8(ascii: "t"): return "\t"
    case UInt8(ascii: "u"):
      var code = try hexadecimal()
      if 0xD800..<0xDC00 ~= code {
        guard accept("\\"), accept("u") else { throw failure("half of a surrogate pair") }
        let low = try hexadecimal()
        guard 0xDC00..<0xE000 ~= low else { throw failure("half of a surrogate pair") }
        code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
      }
      guard let scalar = Unicode.Scalar(code) else { throw failure("half of a surrogate pair") }
      return scalar
    default: throw failure("an unknown escape")
    }
  }

  private mutating func hexadecimal() throws -> UInt32 {
    var code: UInt32 = 0
    for _ in 0..<4 {
      guard let byte = current, let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
        throw failure("four hexadecimal digits are expected")
      }
      position += 1
      code = code << 4 | UInt32(digit)
    }
    return code
  }

  private mutating func digits() -> Int {
    let start = position
    while let byte = current, UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte { position += 1 }
    return position - start
  }

  private mutating func number() throws -> JSONValue {
    let start = position
    _ = accept("-")
    let leadingZero = current == UInt8(ascii: "0")
    let whole = digits()
    guard whole > 0, !(leadingZero && whole > 1) else { throw failure("unexpected character") }
    var isInteger = true
    if accept(".") {
      isInteger = false
      guard digits() > 0 else { throw failure("a digit is expected") }
    }
    if accept("e") || accept("E") {
      isInteger = false
      if !accept("+") { _ = accept("-") }
      guard digits() > 0 else { throw failure("a digit is expected") }
    }
    guard position - start <= 400 else { throw failure("a number of more than 400 characters") }
    let text = String(decoding: bytes[start..<position], as: UTF8.self)
    if isInteger, let integer = Int(text) { return .integer(integer) }
    guard let number = Double(text), number.isFinite else { throw failure("a number out of range") }
    return .number(number)
  }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral,
  ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
  public init(stringLiteral value: String) { self = .string(value) }
  public init(integerLiteral value: Int) { self = .integer(value) }
  public init(booleanLiteral value: Bool) { self = .bool(value) }
  public init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
  public init(dictionaryLiteral elements: (String, JSONValue)...) {
    self = .object(JSONObject(keepingFirst: elements.map { (key: $0.0, value: $0.1) }))
  }

  /// Compact JSON (RFC 8259). Numbers that JSON cannot hold become null.
  public var encoded: [UInt8] {
    var bytes: [UInt8] = []
    encode(into: &bytes)
    return bytes
  }

  private func encode(into bytes: inout [UInt8]) {
    switch self {
    case .null: bytes += "null".utf8
    case .bool(let value): bytes += (value ? "true" : "false").utf8
    case .integer(let value): bytes += String(value).utf8
    case .number(let value): bytes += (value.isFinite ? "\(value)" : "null").utf8
    case .string(let value): Self.encode(value, into: &bytes)
    case .array(let values):
      bytes.append(UInt8(ascii: "["))
      for (i, value) in values.enumerated() {
        if i > 0 { bytes.append(UInt8(ascii: ",")) }
        value.encode(into: &bytes)
      }
      bytes.append(UInt8(ascii: "]"))
    case .object(let object):
      bytes.append(UInt8(ascii: "{"))
      for (i, pair) in object.pairs.enumerated() {
        if i > 0 { bytes.append(UInt8(ascii: ",")) }
        Self.encode(pair.key, into: &bytes)
        bytes.append(UInt8(ascii: ":"))
        pair.value.encode(into: &bytes)
      }
      bytes.append(UInt8(ascii: "}"))
    }
  }

  private static func encode(_ text: String, into bytes: inout [UInt8]) {
    bytes.append(UInt8(ascii: "\""))
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "\""), UInt8(ascii: "\\"): bytes += [UInt8(ascii: "\\"), byte]
      case 0x0A: bytes += "\\n".utf8
      case 0x0D: bytes += "\\r".utf8
      case 0x09: bytes += "\\t".utf8
      case 0..<0x20, 0x7F: bytes += ("\\u00" + hexadecimal([byte])).utf8
      default: bytes.append(byte)
      }
    }
    bytes.append(UInt8(ascii: "\""))
  }
}
