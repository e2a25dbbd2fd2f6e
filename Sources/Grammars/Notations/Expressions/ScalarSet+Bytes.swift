/// How the text of an expression is written as bytes.
enum TextSpelling: Hashable, Sendable {
  /// UTF-8.
  case raw
  /// As between the quotes of a JSON string: each scalar as it is, as a short escape or as `\u` escapes, whichever of them
  /// JSON allows for it.
  case json
}

extension TextExpression {
  /// The bytes of every way to write the texts.
  func bytes(
    written spelling: TextSpelling, _ budget: CompilationBudget
  ) throws(CompilationBudget.Exceeded) -> ByteExpression {
    try budget.spend((spelling == .raw ? 2 : 8) * size)
    return bytes(written: spelling)
  }

  private func bytes(written spelling: TextSpelling) -> ByteExpression {
    switch self {
    case .nothing: .nothing
    case .empty: .empty
    case .scalar(let set): set.bytes(written: spelling)
    case .sequence(let parts): .sequence(parts.map { $0.bytes(written: spelling) })
    case .alternatives(let parts): .alternatives(parts.map { $0.bytes(written: spelling) })
    case .repetition(let part, let minimum, let maximum):
      .repetition(part.bytes(written: spelling), minimum: minimum, maximum: maximum)
    case .intersection(let parts): .intersection(parts.map { $0.bytes(written: spelling) })
    case .complement(let part):
      // Among the bytes that are no text at all, the complement has none.
      .intersection([
        .repetition(ScalarSet.all.bytes(written: spelling), minimum: 0, maximum: nil),
        .complement(part.bytes(written: spelling)),
      ])
    }
  }
}

extension ScalarSet {
  /// The bytes of one scalar of the set.
  func bytes(written spelling: TextSpelling) -> ByteExpression {
    switch spelling {
    case .raw: Self.alternatives(utf8)
    case .json: self == .all ? Self.anyInJSON : Self.alternatives(json)
    }
  }

  private static let anyInJSON = alternatives(ScalarSet.all.json)

  private static func alternatives(_ parts: [ByteExpression]) -> ByteExpression {
    parts.isEmpty ? .nothing : parts.count == 1 ? parts[0] : .alternatives(parts)
  }

  // MARK: UTF-8

  /// One expression for each length in bytes.
  private var utf8: [ByteExpression] {
    let lengths: [(scalars: ClosedRange<UInt32>, marker: UInt8, continuations: Int)] = [
      (0...0x7F, 0, 0), (0x80...0x7FF, 0xC0, 1), (0x800...0xFFFF, 0xE0, 2), (0x10000...0x10FFFF, 0xF0, 3),
    ]
    return lengths.compactMap { length in
      let part = Self.clamp(ranges, to: length.scalars)
      if part.isEmpty { return nil }
      return Self.digits(part, bits: 6, count: length.continuations) { digit, position in
        ByteSet([position == length.continuations ? length.marker | UInt8(digit) : 0x80 | UInt8(digit)])
      }
    }
  }

  private static func clamp(_ ranges: [ClosedRange<UInt32>], to limits: ClosedRange<UInt32>) -> [ClosedRange<UInt32>] {
    ranges.filter { $0.overlaps(limits) }.map { $0.clamped(to: limits) }
  }

  /// Numbers of the ranges written with `count + 1` digits of `bits` bits, the first digit first. Digits after which equal
  /// rests follow are one set.
  private static func digits(
    _ ranges: [ClosedRange<UInt32>], bits: UInt32, count: Int, write: (_ digit: UInt32, _ position: Int) -> ByteSet
  ) -> ByteExpression {
    let shift = bits * UInt32(count)
    let last = UInt32(1) << shift - 1
    var parts: [(digits: ClosedRange<UInt32>, rest: [ClosedRange<UInt32>])] = []
    for range in ranges {
      var lower = range.lowerBound
      while lower <= range.upperBound {
        let digit = lower >> shift
        let start = digit << shift
        if lower == start, range.upperBound >= start + last {
          let lastDigit = (range.upperBound + 1) >> shift - 1
          parts.append((digit...lastDigit, [0...last]))
          lower = (lastDigit + 1) << shift
        } else {
          let upper = min(range.upperBound, start + last)
          let rest = lower - start...upper - start
          if parts.last?.digits == digit...digit {
            parts[parts.count - 1].rest.append(rest)
          } else {
            parts.append((digit...digit, [rest]))
          }
          lower = upper + 1
        }
      }
    }
    var sets: [(rest: ByteExpression, digits: ByteSet)] = []
    var positions: [ByteExpression: Int] = [:]
    for part in parts {
      let set = part.digits.reduce(ByteSet()) { $0.union(write($1, count)) }
      let rest = count == 0 ? .empty : digits(part.rest, bits: bits, count: count - 1, write: write)
      if let position = positions[rest] {
        sets[position].digits = sets[position].digits.union(set)
      } else {
        positions[rest] = sets.count
        sets.append((rest, set))
      }
    }
    return alternatives(
      sets.map { set in
        switch set.rest {
        case .empty: .byte(set.digits)
        case .sequence(let parts): .sequence([.byte(set.digits)] + parts)
        default: .sequence([.byte(set.digits), set.rest])
        }
      })
  }

  // MARK: JSON

  /// Short escapes by scalar.
  static let shortEscapes: [(scalar: Unicode.Scalar, letter: Character)] = [
    ("\"", "\""), ("\\", "\\"), ("/", "/"), ("\u{08}", "b"), ("\u{0C}", "f"), ("\n", "n"), ("\r", "r"), ("\t", "t"),
  ]

  private var json: [ByteExpression] {
    let unescaped = ScalarSet([0...0x1F, 0x22...0x22, 0x5C...0x5C]).inverted
    var parts = intersection(unescaped).utf8
    let letters = Self.shortEscapes.filter { contains($0.scalar.value) }.map { $0.letter.asciiValue! }
    let backslash = ByteExpression.byte(ByteSet("\\".utf8))
    if !letters.isEmpty { parts.append(.sequence([backslash, .byte(ByteSet(letters))])) }
    let unicode = escapedUnits
    if !unicode.isEmpty { parts.append(.sequence([backslash, .byte(ByteSet("u".utf8)), Self.alternatives(unicode)])) }
    return parts
  }

  /// What follows `\u`: four digits, or those of a surrogate pair.
  private var escapedUnits: [ByteExpression] {
    func hexadecimal(_ ranges: [ClosedRange<UInt32>]) -> ByteExpression {
      Self.digits(ranges, bits: 4, count: 3) { digit, _ in
        let text = String(digit, radix: 16)
        return ByteSet(Array(text.utf8) + Array(text.uppercased().utf8))
      }
    }
    var parts: [ByteExpression] = []
    let basic = Self.clamp(ranges, to: 0...0xFFFF)
    if !basic.isEmpty { parts.append(hexadecimal(basic)) }
    // The high surrogates of equal sets of low surrogates are one set.
    var pairs: [(low: [ClosedRange<UInt32>], high: [ClosedRange<UInt32>])] = []
    var positions: [[ClosedRange<UInt32>]: Int] = [:]
    func add(high: ClosedRange<UInt32>, low: [ClosedRange<UInt32>]) {
      if let position = positions[low] {
        pairs[position].high.append(high)
      } else {
        positions[low] = pairs.count
        pairs.append((low, [high]))
      }
    }
    var partial: [UInt32: [ClosedRange<UInt32>]] = [:]
    for range in Self.clamp(ranges, to: 0x10000...0x10FFFF) {
      var lower = range.lowerBound - 0x10000
      let end = range.upperBound - 0x10000
      while lower <= end {
        let high = lower >> 10
        if lower & 0x3FF == 0, end >= lower + 0x3FF {
          let last = (end + 1) >> 10 - 1
          add(high: 0xD800 + high...0xD800 + last, low: [0xDC00...0xDFFF])
          lower = (last + 1) << 10
        } else {
          let upper = min(end, lower | 0x3FF)
          partial[high, default: []].append(0xDC00 + lower & 0x3FF...0xDC00 + upper & 0x3FF)
          lower = upper + 1
        }
      }
    }
    for (high, low) in partial.sorted(by: { $0.key < $1.key }) { add(high: 0xD800 + high...0xD800 + high, low: low) }
    let separator = ByteExpression.literal("\\u")
    for pair in pairs {
      let high = pair.high.sorted { $0.lowerBound < $1.lowerBound }
      parts.append(.sequence([hexadecimal(high), separator, hexadecimal(pair.low)]))
    }
    return parts
  }
}
