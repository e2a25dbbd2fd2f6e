/// A regular expression over Unicode scalar values. It stands for a set of texts.
///
/// Patterns of strings are combined at this level, where a character is one symbol however it is written; `bytes(written:)`
/// turns the result into bytes.
indirect enum TextExpression: Hashable, Sendable {
  /// No text at all.
  case nothing
  /// The empty text.
  case empty
  /// One scalar of the set.
  case scalar(ScalarSet)
  /// The texts of the parts, one after another.
  case sequence([TextExpression])
  /// A text of any of the alternatives.
  case alternatives([TextExpression])
  /// The expression `minimum` to `maximum` times; without end if `maximum` is nil.
  case repetition(TextExpression, minimum: Int, maximum: Int?)
  /// The texts that are in all of the expressions.
  case intersection([TextExpression])
  /// The texts that are not in the expression.
  case complement(TextExpression)

  /// Every text.
  static let anything = TextExpression.repetition(.scalar(.all), minimum: 0, maximum: nil)

  /// Exactly this text.
  static func literal(_ text: String) -> TextExpression {
    joined(text.unicodeScalars.map(single))
  }

  /// Exactly this scalar.
  private static func single(_ scalar: Unicode.Scalar) -> TextExpression {
    scalar.isASCII ? ascii[Int(scalar.value)] : .scalar(ScalarSet(scalar...scalar))
  }

  /// The expression of each ASCII character, made once, so that long texts share them.
  private static let ascii: [TextExpression] = (0..<128).map { .scalar(ScalarSet([$0...$0])) }

  /// Any of the texts, as a tree, so that beginnings that are the same are there once.
  static func any(of texts: [String]) -> TextExpression {
    let scalars = Set(texts.map { Array($0.unicodeScalars) })
    return tree(scalars.sorted { $0.lexicographicallyPrecedes($1) }[...], after: 0, depth: 0)
  }

  /// The rests, after some scalars that all have in common, of sorted texts.
  private static func tree(_ texts: ArraySlice<[Unicode.Scalar]>, after: Int, depth: Int) -> TextExpression {
    func literal(_ scalars: some Sequence<Unicode.Scalar>) -> TextExpression {
      joined(scalars.map(single))
    }
    guard let first = texts.first, let last = texts.last else { return .nothing }
    if depth > 30 { return either(texts.map { literal($0.dropFirst(after)) }) }
    // What the first and the last have in common, all have.
    let common = zip(first.dropFirst(after), last.dropFirst(after)).prefix { $0 == $1 }.count
    let start = after + common
    var branches: [TextExpression] = []
    var rest = texts
    if first.count == start {
      branches.append(.empty)
      rest = rest.dropFirst()
    }
    while let next = rest.first {
      let group = rest.prefix { $0[start] == next[start] }
      branches.append(
        .joined([literal([next[start]]), tree(group, after: start + 1, depth: depth + 1)]))
      rest = rest.dropFirst(group.count)
    }
    return joined([literal(first[after..<start]), branches.isEmpty ? .empty : either(branches)])
  }

  /// A scalar of a range.
  static func range(_ range: ClosedRange<Unicode.Scalar>) -> TextExpression { .scalar(ScalarSet(range)) }

  /// A scalar of a text.
  static func anyScalar(of scalars: String) -> TextExpression { .scalar(ScalarSet(scalars)) }

  /// A sequence, without parts that are empty.
  static func joined(_ parts: [TextExpression]) -> TextExpression {
    var flat: [TextExpression] = []
    for part in parts {
      switch part {
      case .nothing: return .nothing
      case .empty: break
      case .sequence(let inner): flat += inner
      default: flat.append(part)
      }
    }
    return flat.isEmpty ? .empty : flat.count == 1 ? flat[0] : .sequence(flat)
  }

  /// Alternatives, without those that come twice or have no text; sets of scalars become one.
  static func either(_ alternatives: [TextExpression]) -> TextExpression {
    var flat: [TextExpression] = []
    var seen: Set<TextExpression> = []
    var scalars: [ClosedRange<UInt32>] = []
    var hasScalars = false
    func add(_ alternative: TextExpression) {
      switch alternative {
      case .nothing: break
      case .scalar(let set):
        scalars.append(contentsOf: set.ranges)
        hasScalars = true
      case .alternatives(let inner): for part in inner { add(part) }
      default: if seen.insert(alternative).inserted { flat.append(alternative) }
      }
    }
    for alternative in alternatives { add(alternative) }
    if hasScalars { flat.insert(.scalar(ScalarSet(scalars)), at: 0) }
    return flat.isEmpty ? .nothing : flat.count == 1 ? flat[0] : .alternatives(flat)
  }

  /// The texts in all expressions; every text if there are none.
  static func all(_ expressions: [TextExpression]) -> TextExpression {
    var kept: [TextExpression] = []
    var seen: Set<TextExpression> = []
    for expression in expressions {
      if expression == .nothing { return .nothing }
      if expression != .anything, expressions.count == 1 || seen.insert(expression).inserted { kept.append(expression) }
    }
    return kept.isEmpty ? .anything : kept.count == 1 ? kept[0] : .intersection(kept)
  }

  /// This expression `range` times.
  func repeated(_ minimum: Int, _ maximum: Int? = nil) -> TextExpression {
    if self == .empty || maximum == 0 { return .empty }
    if self == .nothing { return minimum == 0 ? .empty : .nothing }
    if minimum == 1, maximum == 1 { return self }
    return .repetition(self, minimum: minimum, maximum: maximum)
  }

  /// This expression or the empty text.
  var optional: TextExpression { repeated(0, 1) }

  /// How many nodes the expression has, with the ranges of its sets.
  var size: Int {
    switch self {
    case .nothing, .empty: 1
    case .scalar(let set): max(1, set.ranges.count)
    case .sequence(let parts), .alternatives(let parts), .intersection(let parts): parts.reduce(1) { $0 + $1.size }
    case .repetition(let part, _, _), .complement(let part): 1 + part.size
    }
  }

  /// Whether the empty text is in the expression.
  var acceptsEmpty: Bool {
    switch self {
    case .nothing, .scalar: false
    case .empty: true
    case .sequence(let parts): parts.allSatisfy(\.acceptsEmpty)
    case .alternatives(let parts): parts.contains(where: \.acceptsEmpty)
    case .repetition(let part, let minimum, _): minimum == 0 || part.acceptsEmpty
    case .intersection(let parts): parts.allSatisfy(\.acceptsEmpty)
    case .complement(let part): !part.acceptsEmpty
    }
  }
}
