/// Regular expressions of decimal numbers within bounds, written without exponent and without negative zero.
enum NumberExpression {
  private static let digit = TextExpression.range("0"..."9")
  private static let digits = digit.repeated(0)
  private static let nonZeroFraction = TextExpression.joined([digits, .range("1"..."9"), digits])

  /// Every whole number.
  static let integer = TextExpression.joined([.literal("-").optional, whole])
  /// Every number; with an exponent, which is short enough that the number is no infinity to those who read it.
  static let number = TextExpression.joined([
    integer, TextExpression.joined([.literal("."), digit.repeated(1)]).optional,
    TextExpression.joined([.anyScalar(of: "eE"), TextExpression.anyScalar(of: "+-").optional, digit.repeated(1, 2)])
      .optional,
  ])
  private static let whole = TextExpression.either([.literal("0"), .joined([.range("1"..."9"), digits])])

  /// The numbers within bounds that are whole, or that are not, or both.
  static func within(_ bounds: NumberBounds, whole: Bool, fractional: Bool) -> TextExpression {
    var parts: [TextExpression] = []
    let zero = NumberBounds.Bound(number: .zero, isExclusive: false)
    if bounds.upper.map({ !$0.number.isNegative }) ?? true {
      let lower = bounds.lower.flatMap { $0.number < .zero ? nil : $0 } ?? zero
      parts.append(magnitudes(lower, bounds.upper, allowsFraction: fractional))
    }
    if bounds.lower.map(\.number.isNegative) ?? true {
      var least = NumberBounds.Bound(number: .zero, isExclusive: true)
      if let upper = bounds.upper, upper.number < .zero {
        least = NumberBounds.Bound(number: upper.number.negated, isExclusive: upper.isExclusive)
      }
      let most = bounds.lower.map { NumberBounds.Bound(number: $0.number.negated, isExclusive: $0.isExclusive) }
      parts.append(.joined([.literal("-"), magnitudes(least, most, allowsFraction: fractional)]))
    }
    let within = TextExpression.either(parts)
    if whole || !fractional { return within }
    let fraction = TextExpression.joined([.anyScalar(of: "-0123456789").repeated(1), .literal("."), nonZeroFraction])
    return .all([within, fraction])
  }

  /// Every text that is read as a number, by readers too who take numbers for doubles.
  static func read(as number: DecimalNumber) -> TextExpression {
    var (lower, upper) = (number, number)
    let double = number.doubleWithFractions
    if let double {
      (lower, upper) = (DecimalNumber(shortest: double.nextDown), DecimalNumber(shortest: double.nextUp))
    }
    let bounds = NumberBounds(
      lower: .init(number: lower, isExclusive: double != nil), upper: .init(number: upper, isExclusive: double != nil))
    return within(bounds, whole: true, fractional: true)
  }

  private static func magnitudes(
    _ lower: NumberBounds.Bound, _ upper: NumberBounds.Bound?, allowsFraction: Bool
  ) -> TextExpression {
    func wholeDigits(_ bound: NumberBounds.Bound) -> [UInt8] { bound.number.whole.isEmpty ? [0] : bound.number.whole }
    func range(_ low: NumberBounds.Bound?, _ high: NumberBounds.Bound?, _ length: Int) -> TextExpression {
      DigitRange(low: low, high: high, wholeDigits: length, allowsFraction: allowsFraction).expression
    }
    let low = wholeDigits(lower).count
    guard let upper else {
      let longer = TextExpression.joined([
        .range("1"..."9"), digit.repeated(low), allowsFraction ? DigitRange.anyFraction.optional : .empty,
      ])
      return .either([range(lower, nil, low), longer])
    }
    let high = wholeDigits(upper).count
    guard low <= high else { return .nothing }
    if low == high { return range(lower, upper, low) }
    var parts = [range(lower, nil, low)]
    if high - low > 1 {
      parts.append(
        .joined([
          .range("1"..."9"), digit.repeated(low, high - 2),
          allowsFraction ? DigitRange.anyFraction.optional : .empty,
        ]))
    }
    return .either(parts + [range(nil, upper, high)])
  }
}

/// Digit strings with a fixed number of digits before the point, between two bounds that have as many.
private struct DigitRange {
  static let anyFraction = TextExpression.joined([.literal("."), TextExpression.range("0"..."9").repeated(1)])
  private static let digits = TextExpression.range("0"..."9").repeated(0)

  private let low: [UInt8]?
  private let high: [UInt8]?
  private let lowIsExclusive: Bool
  private let highIsExclusive: Bool
  private let point: Int
  private let end: Int
  private let allowsFraction: Bool

  init(low: NumberBounds.Bound?, high: NumberBounds.Bound?, wholeDigits: Int, allowsFraction: Bool) {
    point = wholeDigits
    end = wholeDigits + max(low?.number.fraction.count ?? 0, high?.number.fraction.count ?? 0)
    let (length, places) = (end, wholeDigits)
    func padded(_ bound: NumberBounds.Bound?) -> [UInt8]? {
      guard let bound else { return nil }
      let whole = [UInt8](repeating: 0, count: places - bound.number.whole.count) + bound.number.whole
      return whole + bound.number.fraction + [UInt8](repeating: 0, count: length - places - bound.number.fraction.count)
    }
    self.low = padded(low)
    self.high = padded(high)
    lowIsExclusive = low?.isExclusive ?? false
    highIsExclusive = high?.isExclusive ?? false
    self.allowsFraction = allowsFraction
  }

  var expression: TextExpression { rest(at: 0, isLow: low != nil, isHigh: high != nil) }

  /// What may follow `index` digits, which are so far those of the lower bound (`isLow`), of the upper bound (`isHigh`).
  private func rest(at index: Int, isLow: Bool, isHigh: Bool) -> TextExpression {
    if index < point { return digit(at: index, isLow: isLow, isHigh: isHigh) }
    var parts: [TextExpression] = canEnd(at: index, isLow: isLow, isHigh: isHigh) ? [.empty] : []
    if allowsFraction {
      let more: TextExpression
      if !isLow, !isHigh {
        more = TextExpression.range("0"..."9").repeated(1)
      } else if index == end {
        more = isHigh && highIsExclusive ? .nothing : beyond(isLow: isLow, isHigh: isHigh)
      } else if let zeros = zeros(from: index, isLow: isLow, isHigh: isHigh) {
        more = behind(zeros, at: index, isLow: isLow, isHigh: isHigh)
      } else {
        more = digit(at: index, isLow: isLow, isHigh: isHigh)
      }
      parts.append(.joined([index == point ? .literal(".") : .empty, more]))
    }
    return .either(parts)
  }

  /// How many digits of the bounds are zeros from a place after the point on; `nil` for fewer than two.
  private func zeros(from index: Int, isLow: Bool, isHigh: Bool) -> Int? {
    let runs = [isLow ? low : nil, isHigh ? high : nil].compactMap { $0?[index...].prefix { $0 == 0 }.count }
    return runs.min().flatMap { $0 > 1 ? $0 : nil }
  }

  /// What may follow from a place after the point on where the digits of the bounds are zeros. The double beside zero has
  /// hundreds of them, so they are not nested in one another.
  private func behind(_ zeros: Int, at index: Int, isLow: Bool, isHigh: Bool) -> TextExpression {
    let zero = TextExpression.literal("0")
    var parts = [
      TextExpression.joined([
        zero.repeated(zeros, zeros), rest(at: index + zeros, isLow: isLow, isHigh: isHigh),
      ])
    ]
    if canEnd(at: index, isLow: isLow, isHigh: isHigh) { parts.append(zero.repeated(1, zeros - 1)) }
    if !isHigh { parts.append(.joined([zero.repeated(0, zeros - 1), .range("1"..."9"), Self.digits])) }
    return .either(parts)
  }

  /// Further digits after all those of the bounds.
  private func beyond(isLow: Bool, isHigh: Bool) -> TextExpression {
    let zeros = TextExpression.literal("0").repeated(0)
    if isHigh { return isLow && lowIsExclusive ? .nothing : .joined([.literal("0"), zeros]) }
    return lowIsExclusive
      ? .joined([zeros, .range("1"..."9"), Self.digits]) : TextExpression.range("0"..."9").repeated(1)
  }

  private func digit(at index: Int, isLow: Bool, isHigh: Bool) -> TextExpression {
    // JSON's numbers have no leading zeros.
    let first: UInt8 = index == 0 && point > 1 ? 1 : 0
    let (least, most) = (isLow ? low![index] : first, isHigh ? high![index] : 9)
    guard least <= most else { return .nothing }
    var parts: [TextExpression] = []
    var (from, to) = (Int(least), Int(most))
    if isLow {
      parts.append(
        .joined([Self.digit(from, from), rest(at: index + 1, isLow: true, isHigh: isHigh && least == most)]))
      from += 1
    }
    if isHigh, to >= from {
      parts.append(.joined([Self.digit(to, to), rest(at: index + 1, isLow: false, isHigh: true)]))
      to -= 1
    }
    if from <= to {
      parts.append(.joined([Self.digit(from, to), rest(at: index + 1, isLow: false, isHigh: false)]))
    }
    return .either(parts)
  }

  private static func digit(_ from: Int, _ to: Int) -> TextExpression {
    .range(Unicode.Scalar(UInt8(0x30 + from))...Unicode.Scalar(UInt8(0x30 + to)))
  }

  /// Whether the number may end, its further digits being zeros.
  private func canEnd(at index: Int, isLow: Bool, isHigh: Bool) -> Bool {
    if isLow, low![index...].contains(where: { $0 != 0 }) || lowIsExclusive { return false }
    if isHigh, highIsExclusive, high![index...].allSatisfy({ $0 == 0 }) { return false }
    return true
  }
}
