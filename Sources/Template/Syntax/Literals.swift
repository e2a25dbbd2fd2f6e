/// String and number literals, as jinja2 reads them (Python's, without prefixes).
enum Literals {
  /// The string that begins with the quote at `start`.
  static func string(_ source: [UInt8], at start: Int, line: Int) throws(TemplateError) -> (Token.Kind, end: Int) {
    func fail(_ reason: String) -> TemplateError { TemplateError(kind: .syntax, line: line, reason: reason) }
    let quote = source[start]
    var result: [UInt8] = []
    var index = start + 1
    while index < source.count {
      let byte = source[index]
      if byte == quote { return (.string(result), index + 1) }
      guard byte == UInt8(ascii: "\\") else {
        result.append(byte)
        index += 1
        continue
      }
      guard index + 1 < source.count else { break }
      let escape = source[index + 1]
      index += 2
      if let digits = [UInt8(ascii: "x"): 2, UInt8(ascii: "u"): 4, UInt8(ascii: "U"): 8][escape] {
        guard index + digits <= source.count,
          let value = UInt32(String(decoding: source[index..<index + digits], as: UTF8.self), radix: 16),
          source[index] != UInt8(ascii: "+"), let scalar = Unicode.Scalar(value)
        else { throw fail("invalid escape in a string literal") }
        result.append(contentsOf: Array(String(scalar).utf8))
        index += digits
      } else if (48...55).contains(escape) {
        var value = UInt32(escape - 48)
        var digits = 1
        while digits < 3, index < source.count, (48...55).contains(source[index]) {
          value = value * 8 + UInt32(source[index] - 48)
          index += 1
          digits += 1
        }
        if let scalar = Unicode.Scalar(value) { result.append(contentsOf: Array(String(scalar).utf8)) }
      } else if escape == UInt8(ascii: "N") {
        throw fail("named characters in string literals are not supported")
      } else if escape != 10 {
        if let plain = simpleEscapes[escape] {
          result.append(plain)
        } else {
          result.append(UInt8(ascii: "\\"))
          result.append(escape)
        }
      }
    }
    throw fail("unexpected char '\(Character(Unicode.Scalar(quote)))': a string that is not closed")
  }

  private static let simpleEscapes: [UInt8: UInt8] = [
    UInt8(ascii: "n"): 10, UInt8(ascii: "t"): 9, UInt8(ascii: "r"): 13, UInt8(ascii: "a"): 7, UInt8(ascii: "b"): 8,
    UInt8(ascii: "f"): 12, UInt8(ascii: "v"): 11, UInt8(ascii: "\\"): UInt8(ascii: "\\"),
    UInt8(ascii: "'"): UInt8(ascii: "'"), UInt8(ascii: "\""): UInt8(ascii: "\""),
  ]

  /// The number that begins at `start`. It is a float if it has a fraction or an exponent, unless a dot precedes it.
  static func number(_ source: [UInt8], at start: Int, line: Int) throws(TemplateError) -> (Token.Kind, end: Int) {
    func fail(_ reason: String) -> TemplateError { TemplateError(kind: .syntax, line: line, reason: reason) }
    let afterDot = start > 0 && source[start - 1] == UInt8(ascii: ".")
    if !afterDot, let end = floatEnd(source, start) {
      guard let value = Double(plain(source[start..<end])) else { throw fail("invalid number") }
      return (.float(value), end)
    }
    if source[start] == UInt8(ascii: "0"), start + 1 < source.count {
      let radix: Int? =
        switch source[start + 1] | 0x20 {
        case UInt8(ascii: "x"): 16
        case UInt8(ascii: "o"): 8
        case UInt8(ascii: "b"): 2
        default: nil
        }
      if let radix, let end = digitsEnd(source, start + 2, radix: radix, leadingUnderscore: true) {
        guard let value = Int(plain(source[(start + 2)..<end]), radix: radix) else {
          throw fail("an integer beyond 64 bits")
        }
        return (.integer(value), end)
      }
    }
    let zero = source[start] == UInt8(ascii: "0")
    let end = digitsEnd(source, start, radix: zero ? 1 : 10, leadingUnderscore: false) ?? start + 1
    guard let value = Int(plain(source[start..<end])) else { throw fail("an integer beyond 64 bits") }
    return (.integer(value), end)
  }

  private static func plain(_ bytes: ArraySlice<UInt8>) -> String {
    String(decoding: bytes.filter { $0 != UInt8(ascii: "_") }, as: UTF8.self)
  }

  /// The end of digits, which may have single underscores between them. Radix 1 accepts zeros only.
  private static func digitsEnd(_ source: [UInt8], _ start: Int, radix: Int, leadingUnderscore: Bool) -> Int? {
    var index = start
    var end: Int?
    while index < source.count {
      var digit = index
      if source[digit] == UInt8(ascii: "_"), end != nil || leadingUnderscore { digit += 1 }
      guard digit < source.count, source[digit] < 0x80,
        let value = Character(Unicode.Scalar(source[digit])).hexDigitValue, value < radix
      else { break }
      index = digit + 1
      end = index
    }
    return end
  }

  private static func floatEnd(_ source: [UInt8], _ start: Int) -> Int? {
    guard var end = digitsEnd(source, start, radix: 10, leadingUnderscore: false) else { return nil }
    var isFloat = false
    if end < source.count, source[end] == UInt8(ascii: "."),
      let fraction = digitsEnd(source, end + 1, radix: 10, leadingUnderscore: false)
    {
      end = fraction
      isFloat = true
    }
    if end < source.count, source[end] | 0x20 == UInt8(ascii: "e") {
      var exponent = end + 1
      if exponent < source.count, source[exponent] == UInt8(ascii: "+") || source[exponent] == UInt8(ascii: "-") {
        exponent += 1
      }
      if let exponentEnd = digitsEnd(source, exponent, radix: 10, leadingUnderscore: false) { return exponentEnd }
    }
    return isFloat ? end : nil
  }
}
