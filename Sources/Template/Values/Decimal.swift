/// The exact decimal digits of a double, which are rounded as Python and C do.
struct Decimal {
  /// Digits from the most significant, without leading zeros; empty for zero.
  private(set) var digits: [UInt8] = []
  /// The value is 0.d1d2d3… × 10^exponent.
  private(set) var exponent = 0

  /// - Parameter value: finite; its sign is ignored
  init(_ value: Double) {
    guard value != 0, value.isFinite else { return }
    var significand = value.significandBitPattern
    var power = Int(value.exponentBitPattern) - 1075
    if value.exponentBitPattern == 0 { power += 1 } else { significand |= 1 << 52 }
    // value = significand × 2^power, in base 10^9 limbs from the least significant.
    var limbs: [UInt64] = [significand % 1_000_000_000, significand / 1_000_000_000]
    let multiplier: UInt64 = power >= 0 ? 2 : 5
    // For a negative power: significand × 5^-power × 10^power.
    for _ in 0..<abs(power) {
      var carry: UInt64 = 0
      for index in limbs.indices {
        let product = limbs[index] * multiplier + carry
        limbs[index] = product % 1_000_000_000
        carry = product / 1_000_000_000
      }
      if carry > 0 { limbs.append(carry) }
    }
    var text: [UInt8] = []
    for limb in limbs.reversed() {
      var divisor: UInt64 = 100_000_000
      while divisor > 0 {
        text.append(UInt8(limb / divisor % 10))
        divisor /= 10
      }
    }
    let leading = text.prefix { $0 == 0 }.count
    exponent = text.count - leading + min(power, 0)
    digits = Array(text[leading...])
    while digits.last == 0 { digits.removeLast() }
  }

  /// Keeps `count` digits, rounding half to even; a carry may raise the exponent.
  mutating func round(toDigits count: Int) {
    guard count < digits.count else { return }
    guard count >= 0 else {
      digits = []
      return
    }
    let next = digits[count]
    let isTie = next == 5 && digits.count == count + 1
    let roundsUp = isTie ? count > 0 && digits[count - 1] % 2 == 1 : next >= 5
    digits.removeLast(digits.count - count)
    guard roundsUp else {
      while digits.last == 0 { digits.removeLast() }
      return
    }
    while digits.last == 9 { digits.removeLast() }
    if let last = digits.indices.last {
      digits[last] += 1
    } else {
      digits = [1]
      exponent += 1
    }
  }

  private func digit(_ index: Int) -> UInt8 { 48 + (digits.indices.contains(index) ? digits[index] : 0) }

  /// `%.{places}f` of the absolute value.
  func fixed(places: Int) -> String {
    var rounded = self
    rounded.round(toDigits: exponent + places)
    var text: [UInt8] = []
    if rounded.digits.isEmpty || rounded.exponent <= 0 {
      text.append(48)
    } else {
      for index in 0..<rounded.exponent { text.append(rounded.digit(index)) }
    }
    if places > 0 {
      text.append(UInt8(ascii: "."))
      for place in 0..<places { text.append(rounded.digits.isEmpty ? 48 : rounded.digit(rounded.exponent + place)) }
    }
    return String(decoding: text, as: UTF8.self)
  }

  /// `%.{places}e` of the absolute value.
  func scientific(places: Int) -> String {
    var rounded = self
    rounded.round(toDigits: places + 1)
    var text = [rounded.digit(0)]
    if places > 0 {
      text.append(UInt8(ascii: "."))
      for index in 1...places { text.append(rounded.digit(index)) }
    }
    return String(decoding: text, as: UTF8.self) + Self.suffix(rounded.digits.isEmpty ? 0 : rounded.exponent - 1)
  }

  private static func suffix(_ power: Int) -> String {
    "e" + (power < 0 ? "-" : "+") + (abs(power) < 10 ? "0" : "") + String(abs(power))
  }

  /// `%.{precision}g` of the absolute value.
  func general(precision: Int, keepsZeros: Bool = false) -> String {
    let significant = max(precision, 1)
    var rounded = self
    rounded.round(toDigits: significant)
    let power = rounded.digits.isEmpty ? 0 : rounded.exponent - 1
    if power < -4 || power >= significant {
      let text = rounded.scientific(places: keepsZeros ? significant - 1 : max(rounded.digits.count - 1, 0))
      return text
    }
    let needed = max(rounded.digits.count - rounded.exponent, 0)
    return rounded.fixed(places: keepsZeros ? significant - 1 - power : rounded.digits.isEmpty ? 0 : needed)
  }

  /// Python's `repr`: the shortest digits that read back as the same double.
  static func shortest(_ value: Double) -> String {
    if value.isNaN { return "nan" }
    if value.isInfinite { return value < 0 ? "-inf" : "inf" }
    let sign = value.sign == .minus ? "-" : ""
    if value == 0 { return sign + "0.0" }
    // Swift's description has the same digits; only the point and the exponent are written by other rules.
    var exponent = 0
    var digits: [UInt8] = []
    var point: Int?
    var text = Substring(value.magnitude.description)
    if let mark = text.firstIndex(of: "e") {
      exponent = Int(text[text.index(after: mark)...]) ?? 0
      text = text[..<mark]
    }
    for byte in text.utf8 {
      if byte == UInt8(ascii: ".") { point = digits.count } else { digits.append(byte) }
    }
    exponent += point ?? digits.count
    let leading = digits.prefix { $0 == 48 }.count
    digits.removeFirst(leading)
    exponent -= leading
    while digits.last == 48 { digits.removeLast() }
    let power = exponent - 1
    if power < -4 || power >= 16 {
      var result = String(decoding: digits.prefix(1), as: UTF8.self)
      if digits.count > 1 { result += "." + String(decoding: digits.dropFirst(), as: UTF8.self) }
      return sign + result + suffix(power)
    }
    if exponent <= 0 {
      return sign + "0." + String(repeating: "0", count: -exponent) + String(decoding: digits, as: UTF8.self)
    }
    if digits.count <= exponent {
      return sign + String(decoding: digits, as: UTF8.self) + String(repeating: "0", count: exponent - digits.count)
        + ".0"
    }
    return sign + String(decoding: digits.prefix(exponent), as: UTF8.self) + "."
      + String(decoding: digits.dropFirst(exponent), as: UTF8.self)
  }
}
