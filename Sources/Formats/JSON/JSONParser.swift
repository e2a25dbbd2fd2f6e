/// A type of JSON values that `JSONParser` makes from their parts.
package protocol JSONDocument {
  static var null: Self { get }
  static func bool(_ value: Bool) -> Self
  /// A number without fraction or exponent that fits 64 bits.
  static func integer(_ value: Int) -> Self
  static func number(_ value: Double) -> Self
  /// A number that a double does not hold, as the text writes it; `nil` if the document has only doubles.
  static func exact(_ text: String) -> Self?
  static func string(_ value: String) -> Self
  static func array(_ values: [Self]) -> Self
  /// `nil` if the document does not allow a key to come twice, and one does.
  static func object(members: [(key: String, value: Self)]) -> Self?
}

extension JSONDocument {
  package static func exact(_ text: String) -> Self? { nil }
}

/// Why a text is not JSON.
package struct JSONSyntaxError: Error {
  /// Bytes before the error.
  package let offset: Int
  /// What is wrong there.
  package let reason: String
}

/// Limits of a JSON document. They bound its memory, which its length alone does not: seven bytes of text can make an object
/// of several hundred bytes.
public struct JSONLimits: Sendable {
  /// The maximum of values. An array counts as four and an object as sixteen, in proportion to their memory.
  public var values: Int
  /// The maximum depth of nested arrays and objects.
  public var depth: Int
  /// The maximum of combining marks in a row in a text.
  public var combiningMarks: Int
  /// Whether numbers may be beyond the range of doubles, if the document keeps them as they are written.
  public var allowsAnyNumber: Bool

  /// - Parameters: as the properties
  public init(
    values: Int = 4_000_000, depth: Int = 64, combiningMarks: Int = .max, allowsAnyNumber: Bool = false
  ) {
    self.values = values
    self.depth = depth
    self.combiningMarks = combiningMarks
    self.allowsAnyNumber = allowsAnyNumber
  }

  /// The limits of a model's files, whose names and tokens are hashed whatever their length. What requests say has limits
  /// of its own.
  package static func file(values: Int = 4_000_000) -> JSONLimits {
    JSONLimits(values: values, combiningMarks: String.longestRunOfMarks)
  }
}

/// Parses untrusted JSON (RFC 8259) in one pass, by recursive descent, with limits on the depth and the number of values.
struct JSONParser<Document: JSONDocument> {
  private let bytes: UnsafeBufferPointer<UInt8>
  private var valuesLeft: Int
  private var position: Int
  private var unescaped: [UInt8] = []

  private let depthLimit: Int
  private let markLimit: Int
  private let allowsAnyNumber: Bool
  private static var longestNumber: Int { 400 }

  /// - Parameters:
  ///   - bytes: valid as long as the parser is used
  ///   - start: the index where the document begins
  init(_ bytes: UnsafeBufferPointer<UInt8>, start: Int = 0, limits: JSONLimits = JSONLimits(values: .max)) {
    self.bytes = bytes
    position = start
    valuesLeft = limits.values
    depthLimit = limits.depth
    markLimit = limits.combiningMarks
    allowsAnyNumber = limits.allowsAnyNumber
  }

  /// Parses the whole text. A byte order mark before the document is skipped, as RFC 8259 allows.
  mutating func document() throws(JSONSyntaxError) -> Document {
    if bytes.dropFirst(position).starts(with: [0xEF, 0xBB, 0xBF]) { position += 3 }
    skipSpace()
    let value = try value(depth: 0)
    skipSpace()
    guard position == bytes.count else { throw failure("text after the document") }
    return value
  }

  private func failure(_ reason: String) -> JSONSyntaxError { JSONSyntaxError(offset: position, reason: reason) }

  private var current: UInt8? { position < bytes.count ? bytes[position] : nil }

  private mutating func skipSpace() {
    while let byte = current, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { position += 1 }
  }

  private mutating func accept(_ character: Unicode.Scalar) -> Bool {
    guard current == UInt8(ascii: character) else { return false }
    position += 1
    return true
  }

  private mutating func value(depth: Int) throws(JSONSyntaxError) -> Document {
    guard depth <= depthLimit else { throw failure("nested more than \(depthLimit) deep") }
    switch current {
    case UInt8(ascii: "{"): valuesLeft -= 16
    case UInt8(ascii: "["): valuesLeft -= 4
    default: valuesLeft -= 1
    }
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

  private mutating func literal(_ word: String, _ value: Document) throws(JSONSyntaxError) -> Document {
    for byte in word.utf8 {
      guard current == byte else { throw failure("unexpected character") }
      position += 1
    }
    return value
  }

  private mutating func object(depth: Int) throws(JSONSyntaxError) -> Document {
    position += 1
    var members: [(key: String, value: Document)] = []
    skipSpace()
    if !accept("}") {
      while true {
        skipSpace()
        guard current == UInt8(ascii: "\"") else { throw failure("a key is expected") }
        let key = try string()
        skipSpace()
        guard accept(":") else { throw failure("a colon is expected") }
        skipSpace()
        members.append((key, try value(depth: depth + 1)))
        skipSpace()
        if accept(",") { continue }
        guard accept("}") else { throw failure("a comma or a closing brace is expected") }
        break
      }
    }
    guard let object = Document.object(members: members) else {
      throw failure("a key comes twice in the object that ends here")
    }
    return object
  }

  private mutating func array(depth: Int) throws(JSONSyntaxError) -> Document {
    position += 1
    var values: [Document] = []
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

  // MARK: strings

  /// A string without escapes is copied from the text as it is; most strings have none.
  private mutating func string() throws(JSONSyntaxError) -> String {
    position += 1
    let start = position
    while let byte = current {
      switch byte {
      case UInt8(ascii: "\""):
        let run = UnsafeBufferPointer(rebasing: bytes[start..<position])
        position += 1
        return try text(run)
      case UInt8(ascii: "\\"): return try escapedString(from: start)
      case 0..<0x20: throw failure("a control character in a string")
      default: position += 1
      }
    }
    throw failure("a string does not end")
  }

  private func text(_ run: some Collection<UInt8>) throws(JSONSyntaxError) -> String {
    guard let text = String(validating: run, as: UTF8.self) else { throw failure("a string is not UTF-8") }
    if text.hasMarks(moreThan: markLimit) { throw failure("more than \(markLimit) combining marks in a row") }
    return text
  }

  private mutating func escapedString(from start: Int) throws(JSONSyntaxError) -> String {
    unescaped.removeAll(keepingCapacity: true)
    unescaped.append(contentsOf: bytes[start..<position])
    while let byte = current {
      position += 1
      switch byte {
      case UInt8(ascii: "\""): return try text(unescaped)
      case UInt8(ascii: "\\"): unescaped.append(contentsOf: Array(String(Character(try escape())).utf8))
      case 0..<0x20: throw failure("a control character in a string")
      default: unescaped.append(byte)
      }
    }
    throw failure("a string does not end")
  }

  private mutating func escape() throws(JSONSyntaxError) -> Unicode.Scalar {
    guard let byte = current else { throw failure("a string does not end") }
    position += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(byte)
    case UInt8(ascii: "b"): return "\u{08}"
    case UInt8(ascii: "f"): return "\u{0C}"
    case UInt8(ascii: "n"): return "\n"
    case UInt8(ascii: "r"): return "\r"
    case UInt8(ascii: "t"): return "\t"
    case UInt8(ascii: "u"): return try escapedScalar()
    default: throw failure("an unknown escape")
    }
  }

  /// The scalar of `\uXXXX`, or of a surrogate pair. A lone surrogate is an error.
  private mutating func escapedScalar() throws(JSONSyntaxError) -> Unicode.Scalar {
    var code = try fourDigits()
    if 0xD800..<0xDC00 ~= code {
      guard accept("\\"), accept("u") else { throw failure("half of a surrogate pair") }
      let low = try fourDigits()
      guard 0xDC00..<0xE000 ~= low else { throw failure("half of a surrogate pair") }
      code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
    }
    guard let scalar = Unicode.Scalar(code) else { throw failure("half of a surrogate pair") }
    return scalar
  }

  private mutating func fourDigits() throws(JSONSyntaxError) -> UInt32 {
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

  // MARK: numbers

  private mutating func digits() -> Int {
    let start = position
    while let byte = current, UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte { position += 1 }
    return position - start
  }

  private mutating func number() throws(JSONSyntaxError) -> Document {
    let start = position
    _ = accept("-")
    let leadingZero = current == UInt8(ascii: "0")
    let whole = digits()
    guard whole > 0, !(leadingZero && whole > 1) else { throw failure("unexpected character") }
    var (isInteger, hasExponent) = (true, false)
    if accept(".") {
      isInteger = false
      guard digits() > 0 else { throw failure("a digit is expected") }
    }
    if accept("e") || accept("E") {
      (isInteger, hasExponent) = (false, true)
      if !accept("+") { _ = accept("-") }
      guard digits() > 0 else { throw failure("a digit is expected") }
    }
    guard position - start <= Self.longestNumber else {
      throw failure("a number of more than \(Self.longestNumber) characters")
    }
    let text = String(decoding: bytes[start..<position], as: UTF8.self)
    if isInteger, let integer = Int(text) { return .integer(integer) }
    guard let number = Double(text), number.isFinite else {
      guard allowsAnyNumber, let exact = Document.exact(text) else { throw failure("a number out of range") }
      return exact
    }
    // Up to 15 digits come back from a double as they were.
    let isShort = text.utf8.count <= 15 && !hasExponent
    if !isShort, isInteger || SignificantDigits(text) != SignificantDigits("\(number)"),
      let exact = Document.exact(text)
    {
      return exact
    }
    return .number(number)
  }
}
