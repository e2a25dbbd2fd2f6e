/// A position in a text that is parsed scalar by scalar.
struct ScalarScanner {
  /// The index of the current scalar.
  var position = 0
  private let scalars: [Unicode.Scalar]

  /// A scanner at the beginning of a text.
  init(_ text: String) { scalars = Array(text.unicodeScalars) }

  /// The scalars of the whole text.
  var count: Int { scalars.count }
  /// Whether the text is read.
  var isAtEnd: Bool { position == scalars.count }
  /// The current scalar; `nil` at the end.
  var current: Unicode.Scalar? { peek(0) }

  /// The scalar some scalars after the current one.
  func peek(_ distance: Int) -> Unicode.Scalar? {
    position + distance < scalars.count ? scalars[position + distance] : nil
  }

  /// Reads a scalar.
  mutating func next() -> Unicode.Scalar? {
    guard let scalar = current else { return nil }
    position += 1
    return scalar
  }

  /// Reads a text if it is next.
  mutating func skip(_ text: StaticString) -> Bool {
    let expected = Array(text.description.unicodeScalars)
    guard scalars[position...].starts(with: expected) else { return false }
    position += expected.count
    return true
  }

  /// Reads scalars while they are in a set.
  mutating func take(while isMember: (Unicode.Scalar) -> Bool) -> String {
    var text = String.UnicodeScalarView()
    while let scalar = current, isMember(scalar) {
      text.append(scalar)
      position += 1
    }
    return String(text)
  }

  /// Reads a name of letters, digits and underscores.
  mutating func skipName() -> Bool {
    !take { ScalarSet.wordCharacters.contains($0.value) || $0.properties.isIDContinue }.isEmpty
  }

  /// An error at a position, or at the current one.
  func error(_ reason: String, at position: Int? = nil) -> NotationError {
    NotationError(reason, in: scalars, at: position ?? self.position)
  }

  /// The counts of a quantifier after its opening brace, `{m}`, `{m,}` or `{m,n}`; `nil` if there is something else.
  mutating func counts(limit: Int) throws(NotationError) -> (minimum: Int, maximum: Int?)? {
    let start = position
    func isDigit(_ scalar: Unicode.Scalar) -> Bool { "0"..."9" ~= scalar }
    let first = take(while: isDigit)
    var second: String?
    if skip(",") { second = take(while: isDigit) }
    guard skip("}"), !(first.isEmpty && (second ?? "").isEmpty) else { return nil }
    let minimum = first.isEmpty ? 0 : Int(first) ?? .max
    let maximum = second.map { $0.isEmpty ? nil : Int($0) ?? .max } ?? minimum
    guard max(minimum, maximum ?? 0) <= limit else {
      throw error("a quantifier of more than \(limit) repetitions", at: start)
    }
    if let maximum, maximum < minimum { throw error("a quantifier whose maximum is below its minimum", at: start) }
    return (minimum, maximum)
  }

  /// The set of an escape after its backslash: a class of characters, or a single one.
  mutating func classEscape(from start: Int) throws(NotationError) -> ScalarSet {
    guard let scalar = next() else { throw error("a backslash at the end", at: start) }
    switch scalar {
    case "d": return .digits
    case "D": return ScalarSet.digits.inverted
    case "w": return .wordCharacters
    case "W": return ScalarSet.wordCharacters.inverted
    case "s": return .whiteSpace
    case "S": return ScalarSet.whiteSpace.inverted
    case "p", "P":
      guard skip("{") else { throw error("a Unicode property in braces is expected after \\\(scalar)") }
      let name = take { $0 != "}" }
      guard skip("}"), let set = ScalarSet.property(name) else {
        throw error("the Unicode property \"\(name)\" is not supported", at: start)
      }
      return scalar == "p" ? set : set.inverted
    default:
      position -= 1
      let value = try escapedScalar(from: start)
      return ScalarSet(value...value)
    }
  }

  /// The scalar of an escape after its backslash.
  mutating func escapedScalar(from start: Int) throws(NotationError) -> Unicode.Scalar {
    guard let scalar = next() else { throw error("a backslash at the end", at: start) }
    switch scalar {
    case "n": return "\n"
    case "r": return "\r"
    case "t": return "\t"
    case "v": return "\u{0B}"
    case "f": return "\u{0C}"
    case "0":
      if let digit = current, "0"..."9" ~= digit { throw error("an octal escape", at: start) }
      return "\0"
    case "x": return try hexadecimal(2, from: start)
    case "u":
      if skip("{") {
        let digits = take { $0 != "}" }
        guard skip("}"), let value = UInt32(digits, radix: 16), let scalar = Unicode.Scalar(value) else {
          throw error("an escape that is no Unicode character", at: start)
        }
        return scalar
      }
      return try hexadecimal(4, from: start)
    case "U": return try hexadecimal(8, from: start)
    case "c":
      guard let letter = next(), "a"..."z" ~= letter || "A"..."Z" ~= letter else {
        throw error("a letter is expected after \\c", at: start)
      }
      return Unicode.Scalar(letter.value % 32)!
    default:
      guard !scalar.properties.isIDContinue else { throw error("the unknown escape \\\(scalar)", at: start) }
      return scalar
    }
  }

  private mutating func hexadecimal(_ count: Int, from start: Int) throws(NotationError) -> Unicode.Scalar {
    func unit() -> UInt32? {
      guard position + count <= scalars.count else { return nil }
      var digits = String.UnicodeScalarView()
      digits.append(contentsOf: scalars[position..<position + count])
      return String(digits).allSatisfy(\.isHexDigit) ? UInt32(String(digits), radix: 16) : nil
    }
    guard var value = unit() else { throw error("\(count) hexadecimal digits are expected", at: start) }
    position += count
    if count == 4, 0xD800..<0xDC00 ~= value, skip("\\u"), let low = unit(), 0xDC00..<0xE000 ~= low {
      position += 4
      value = 0x10000 + (value - 0xD800) << 10 + (low - 0xDC00)
    }
    guard let scalar = Unicode.Scalar(value) else { throw error("an escape that is no Unicode character", at: start) }
    return scalar
  }
}

extension ScalarSet {
  /// The scalar of a set that has only one.
  var single: UInt32? { ranges.count == 1 && ranges[0].count == 1 ? ranges[0].lowerBound : nil }
}
