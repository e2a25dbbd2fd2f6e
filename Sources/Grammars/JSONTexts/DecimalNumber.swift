import Formats

/// A decimal number, exactly.
struct DecimalNumber: Hashable, Sendable {
  var isNegative: Bool
  /// The digits before the point, without leading zeros; none for zero.
  var whole: [UInt8]
  /// The digits after the point, without trailing zeros.
  var fraction: [UInt8]

  static let zero = DecimalNumber(isNegative: false, whole: [], fraction: [])

  /// - Parameters: the digits as values, with zeros at the ends allowed
  init(isNegative: Bool, whole: [UInt8], fraction: [UInt8]) {
    self.whole = Array(whole.drop { $0 == 0 })
    self.fraction = Array(fraction.reversed().drop { $0 == 0 }.reversed())
    self.isNegative = isNegative && !(self.whole.isEmpty && self.fraction.isEmpty)
  }

  /// The number of a JSON value, which for a `Double` is its shortest decimal; `nil` if the value is no number, and if it
  /// is one beyond the range of doubles, which could have any number of digits.
  init?(_ value: JSONValue) {
    switch value {
    case .integer(let integer): self.init(text: "\(integer)")
    case .number(let number): self.init(shortest: number)
    case .decimal(let text):
      guard let double = value.double, double != 0 else { return nil }
      self.init(text: text)
    default: return nil
    }
  }

  /// The number that a double holds, all digits of it; `double` is whole.
  init(exactly double: Double) {
    // Digits in reverse, doubled for each power of two.
    var digits = String(UInt64(double.significand * 0x1p52)).utf8.reversed().map { $0 - 0x30 }
    for _ in 0..<max(0, Int(double.exponent) - 52) {
      var carry: UInt8 = 0
      for index in digits.indices {
        let value = 2 * digits[index] + carry
        (digits[index], carry) = (value % 10, value / 10)
      }
      if carry > 0 { digits.append(carry) }
    }
    self.init(isNegative: double < 0, whole: digits.reversed(), fraction: [])
  }

  /// The shortest decimal that is read as a double; `double` is finite.
  init(shortest double: Double) { self.init(text: "\(double)") }

  private init(text: String) {
    let parts = text.lowercased().split(separator: "e")
    let exponent = parts.count > 1 ? Int(parts[1])! : 0
    let isNegative = parts[0].hasPrefix("-")
    let mantissa = (isNegative ? parts[0].dropFirst() : parts[0]).split(
      separator: ".", omittingEmptySubsequences: false)
    var digits = mantissa.joined().utf8.map { $0 - 0x30 }
    var point = mantissa[0].utf8.count + exponent
    if point < 0 {
      digits.insert(contentsOf: repeatElement(0, count: -point), at: 0)
      point = 0
    }
    if point > digits.count { digits += repeatElement(0, count: point - digits.count) }
    self.init(isNegative: isNegative, whole: Array(digits[..<point]), fraction: Array(digits[point...]))
  }

  /// Whether it is a whole number.
  var isWhole: Bool { fraction.isEmpty }

  /// The magnitude with the other sign.
  var negated: DecimalNumber { DecimalNumber(isNegative: !isNegative, whole: whole, fraction: fraction) }

  /// The number in JSON, without exponent.
  var text: String {
    func digits(_ values: [UInt8]) -> String { String(decoding: values.map { $0 + 0x30 }, as: UTF8.self) }
    return (isNegative ? "-" : "") + (whole.isEmpty ? "0" : digits(whole))
      + (fraction.isEmpty ? "" : "." + digits(fraction))
  }

  /// The number as a double; `nil` from 2^53, where readers that take numbers with a fraction for doubles have whole numbers
  /// only, and read those without one exactly.
  var doubleWithFractions: Double? { Double(text).flatMap { abs($0) < 0x1p53 ? $0 : nil } }

  /// The number as an integer; `nil` if it is none of 64 bits.
  var integer: Int? { isWhole ? Int(text) : nil }

  /// The remainder of the magnitude times 10^`scale` by `divisor`; `nil` if that product is not whole.
  func remainder(scale: Int, divisor: Int) -> Int? {
    guard fraction.count <= scale else { return nil }
    let digits = whole + fraction + [UInt8](repeating: 0, count: scale - fraction.count)
    return digits.reduce(0) { ($0 * 10 + Int($1)) % divisor }
  }

  /// The whole number that the digits are without the point, and how many of them were after it; `nil` above a billion.
  var scaled: (value: Int, scale: Int)? {
    var value = 0
    for digit in whole + fraction {
      value = value * 10 + Int(digit)
      guard value <= 1_000_000_000 else { return nil }
    }
    return (value, fraction.count)
  }
}

extension DecimalNumber: Comparable {
  static func < (a: DecimalNumber, b: DecimalNumber) -> Bool {
    if a.isNegative != b.isNegative { return a.isNegative }
    return a.isNegative ? isBelow(b, a) : isBelow(a, b)
  }

  private static func isBelow(_ a: DecimalNumber, _ b: DecimalNumber) -> Bool {
    if a.whole.count != b.whole.count { return a.whole.count < b.whole.count }
    if a.whole != b.whole { return a.whole.lexicographicallyPrecedes(b.whole) }
    return a.fraction.lexicographicallyPrecedes(b.fraction)
  }
}

/// The numbers between two bounds.
struct NumberBounds: Hashable, Sendable {
  var lower: Bound?
  var upper: Bound?

  struct Bound: Hashable, Sendable {
    var number: DecimalNumber
    var isExclusive: Bool

    /// The bound of what is not within this one.
    var opposite: Bound { Bound(number: number, isExclusive: !isExclusive) }
  }

  /// The numbers within both.
  func intersection(_ other: NumberBounds) -> NumberBounds {
    func pick(_ a: Bound?, _ b: Bound?, _ isTighter: (DecimalNumber, DecimalNumber) -> Bool) -> Bound? {
      guard let a, let b else { return a ?? b }
      if a.number == b.number { return a.isExclusive ? a : b }
      return isTighter(a.number, b.number) ? a : b
    }
    return NumberBounds(lower: pick(lower, other.lower, >), upper: pick(upper, other.upper, <))
  }

  /// The numbers below and above.
  var outside: [NumberBounds] {
    (lower.map { [NumberBounds(upper: $0.opposite)] } ?? []) + (upper.map { [NumberBounds(lower: $0.opposite)] } ?? [])
  }

  /// The numbers that are within the bounds for readers too who take numbers for doubles. They may read a number beside an
  /// exclusive bound as the bound itself, so the double next to the bound is the bound here.
  var asRead: NumberBounds {
    func beside(_ bound: Bound, _ next: (Double) -> Double) -> Bound {
      guard bound.isExclusive, let double = bound.number.doubleWithFractions else { return bound }
      return Bound(number: DecimalNumber(shortest: next(double)), isExclusive: false)
    }
    return NumberBounds(lower: lower.map { beside($0, \.nextUp) }, upper: upper.map { beside($0, \.nextDown) })
  }

  /// Whether the number is within the bounds.
  func contains(_ number: DecimalNumber) -> Bool {
    if let lower, number < lower.number || (lower.isExclusive && number == lower.number) { return false }
    if let upper, number > upper.number || (upper.isExclusive && number == upper.number) { return false }
    return true
  }
}
