/// A JSON document (RFC 8259). Its objects keep the order of their keys, which PEFT's pattern matching depends on.
public enum JSONValue: Sendable, Equatable {
  /// `null`
  case null
  /// `true` or `false`
  case bool(Bool)
  /// A number without fraction or exponent that fits 64 bits.
  case integer(Int)
  /// A number with a fraction or an exponent that is the shortest decimal of its double.
  case number(Double)
  /// Any other number, as the text writes it: an integer beyond 64 bits, one with more digits than a double keeps, or one
  /// beyond the range of doubles.
  case decimal(String)
  /// A string, with its escapes decoded.
  case string(String)
  /// An array.
  case array([JSONValue])
  /// An object.
  case object(JSONObject)

  /// The string; `nil` for another kind.
  public var string: String? { if case .string(let value) = self { value } else { nil } }
  /// The boolean; `nil` for another kind.
  public var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  /// The integer; `nil` for another kind, and for a number with a fraction or an exponent.
  public var integer: Int? { if case .integer(let value) = self { value } else { nil } }
  /// The elements; `nil` for another kind.
  public var array: [JSONValue]? { if case .array(let value) = self { value } else { nil } }
  /// The object; `nil` for another kind.
  public var object: JSONObject? { if case .object(let value) = self { value } else { nil } }
  /// Whether the value is null.
  public var isNull: Bool { self == .null }

  /// The number, with or without a fraction, or what is nearest to it, always finite; `nil` for another kind, and for a
  /// number beyond the range of doubles.
  public var double: Double? {
    switch self {
    case .integer(let value): Double(value)
    case .number(let value): value
    case .decimal(let text): Double(text).flatMap { $0.isFinite ? $0 : nil }
    default: nil
    }
  }
}

/// A JSON object: key-value pairs in the order of the text, with unique keys.
public struct JSONObject: Sendable, Equatable {
  /// In the order of the text.
  public let pairs: [(key: String, value: JSONValue)]
  private let index: [String: Int]

  /// `nil` if a key comes twice.
  init?(_ pairs: [(key: String, value: JSONValue)]) {
    self.pairs = pairs
    var index: [String: Int] = [:]
    for (position, pair) in pairs.enumerated() where index.updateValue(position, forKey: pair.key) != nil { return nil }
    self.index = index
  }

  /// Of pairs with equal keys the first stays.
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

  /// Of pairs with equal keys the last value stays, in the place of the first.
  init(keepingLast pairs: [(key: String, value: JSONValue)]) {
    var index: [String: Int] = [:]
    var kept: [(key: String, value: JSONValue)] = []
    for pair in pairs {
      if let position = index[pair.key] {
        kept[position].value = pair.value
      } else {
        index[pair.key] = kept.count
        kept.append(pair)
      }
    }
    self.pairs = kept
    self.index = index
  }

  /// The value of a key; `nil` if there is none.
  public subscript(key: String) -> JSONValue? { index[key].map { pairs[$0].value } }
  /// In the order of the text.
  public var keys: [String] { pairs.map(\.key) }
  /// Whether there are no pairs.
  public var isEmpty: Bool { pairs.isEmpty }

  /// Whether both have equal pairs in the same order.
  public static func == (a: JSONObject, b: JSONObject) -> Bool {
    a.pairs.count == b.pairs.count && zip(a.pairs, b.pairs).allSatisfy { $0.key == $1.key && $0.value == $1.value }
  }
}

extension JSONValue {
  /// Parses untrusted text in one pass, with limits on the depth and the number of values. A byte order mark, which some
  /// editors write before UTF-8, is skipped.
  /// - Parameter subject: what errors name
  /// - Throws: `ModelError` with the byte offset of the error
  public static func parse(
    _ text: some Collection<UInt8>, subject: String, limits: JSONLimits = JSONLimits()
  ) throws -> JSONValue {
    try document(text, subject: subject, limits: limits)
  }

  /// Parses as `parse` does, but keys may repeat within an object: the last value stays, as in most parsers. Models write
  /// such objects.
  public static func parseKeepingLast(
    _ text: some Collection<UInt8>, subject: String, limits: JSONLimits = JSONLimits()
  ) throws -> JSONValue {
    let document: RepeatingKeys = try document(text, subject: subject, limits: limits)
    return document.value
  }

  private static func document<Document: JSONDocument>(
    _ text: some Collection<UInt8>, subject: String, limits: JSONLimits
  ) throws -> Document {
    let mark: [UInt8] = [0xEF, 0xBB, 0xBF]
    do throws(JSONSyntaxError) {
      return try Array(text.starts(with: mark) ? text.dropFirst(mark.count) : text[...]).withUnsafeBufferPointer {
        (bytes) throws(JSONSyntaxError) in
        var parser = JSONParser<Document>(bytes, limits: limits)
        return try parser.document()
      }
    } catch { throw ModelError(subject, reason: "malformed JSON at byte \(error.offset): \(error.reason)") }
  }
}

/// A value in whose objects keys may repeat.
private struct RepeatingKeys: JSONDocument {
  let value: JSONValue

  static var null: Self { Self(value: .null) }
  static func bool(_ value: Bool) -> Self { Self(value: .bool(value)) }
  static func integer(_ value: Int) -> Self { Self(value: .integer(value)) }
  static func number(_ value: Double) -> Self { Self(value: .number(value)) }
  static func exact(_ text: String) -> Self? { Self(value: .decimal(text)) }
  static func string(_ value: String) -> Self { Self(value: .string(value)) }
  static func array(_ values: [Self]) -> Self { Self(value: .array(values.map(\.value))) }
  static func object(members: [(key: String, value: Self)]) -> Self? {
    Self(value: .object(JSONObject(keepingLast: members.map { ($0.key, $0.value.value) })))
  }
}

extension JSONValue: JSONDocument {
  package static func exact(_ text: String) -> JSONValue? { .decimal(text) }

  /// `nil` if a key comes twice.
  package static func object(members: [(key: String, value: JSONValue)]) -> JSONValue? {
    JSONObject(members).map { .object($0) }
  }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral,
  ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
  /// A string.
  public init(stringLiteral value: String) { self = .string(value) }
  /// An integer.
  public init(integerLiteral value: Int) { self = .integer(value) }
  /// A boolean.
  public init(booleanLiteral value: Bool) { self = .bool(value) }
  /// An array.
  public init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
  /// An object; of equal keys the first stays.
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
    case .decimal(let text): bytes += text.utf8
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
    escape(text, into: &bytes)
    bytes.append(UInt8(ascii: "\""))
  }

  /// Appends a text, escaped, as it is written between the quotes of a JSON string.
  public static func escape(_ text: String, into bytes: inout [UInt8]) {
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
  }
}
