/// A regular expression with anchors: for each combination of anchors the texts that it matches.
///
/// `^` matches only where the text begins and `$` only where it ends, so an anchor at another position leaves those matches
/// that are empty on the side towards it.
struct AnchoredExpression {
  /// What is matched where: at any position, only at the start of the text, only at its end, only as the whole text.
  private var matches: [Anchors: TextExpression]

  private struct Anchors: OptionSet, Hashable {
    let rawValue: UInt8
    static let start = Anchors(rawValue: 1)
    static let end = Anchors(rawValue: 2)
    static let combinations = (0..<4).map { Anchors(rawValue: $0) }
  }

  private init(_ matches: [Anchors: TextExpression]) {
    self.matches = matches.filter { $0.value != .nothing }
  }

  /// An expression without anchors.
  init(_ expression: TextExpression) { self.init([[]: expression]) }

  /// `^`
  static let start = AnchoredExpression([.start: .empty])
  /// `$`
  static let end = AnchoredExpression([.end: .empty])

  /// Whether there are no anchors in it.
  var isPlain: Bool { matches.keys.allSatisfy(\.isEmpty) }

  /// How many nodes the expressions have.
  var size: Int { matches.values.reduce(0) { $0 + $1.size } }

  /// One after another.
  func followed(by other: AnchoredExpression) -> AnchoredExpression {
    if isPlain, other.isPlain { return AnchoredExpression(.joined([plain, other.plain])) }
    var result: [Anchors: [TextExpression]] = [:]
    for (left, first) in matches {
      for (right, second) in other.matches {
        let before = right.contains(.start) ? (first.acceptsEmpty ? .empty : .nothing) : first
        let after = left.contains(.end) ? (second.acceptsEmpty ? .empty : .nothing) : second
        result[left.union(right), default: []].append(.joined([before, after]))
      }
    }
    return AnchoredExpression(result.mapValues { .either($0) })
  }

  /// Any of the expressions.
  static func either(_ expressions: [AnchoredExpression]) -> AnchoredExpression {
    var result: [Anchors: TextExpression] = [:]
    for anchors in Anchors.combinations {
      result[anchors] = .either(expressions.compactMap { $0.matches[anchors] })
    }
    return AnchoredExpression(result)
  }

  /// The expression `minimum` to `maximum` times; `nil` for an expression with anchors that may be repeated.
  func repeated(_ minimum: Int, _ maximum: Int?) -> AnchoredExpression? {
    if isPlain { return AnchoredExpression(plain.repeated(minimum, maximum)) }
    guard let maximum, maximum <= 1 else { return nil }
    if maximum == 0 { return AnchoredExpression(.empty) }
    return minimum == 1 ? self : .either([self, AnchoredExpression(.empty)])
  }

  /// The texts that are matched as a whole.
  var whole: TextExpression { .either(Anchors.combinations.compactMap { matches[$0] }) }

  /// The texts somewhere in which a match is.
  var searched: TextExpression {
    .either(
      Anchors.combinations.compactMap { anchors in
        matches[anchors].map {
          .joined([anchors.contains(.start) ? .empty : .anything, $0, anchors.contains(.end) ? .empty : .anything])
        }
      })
  }

  /// Whether every match ends where the text does.
  var reachesEnd: Bool { matches.keys.allSatisfy { $0.contains(.end) } }

  /// Whether there are matches only where the text begins.
  var hasStart: Bool { matches.keys.contains { $0.contains(.start) } }

  /// The matches that are in an expression.
  func intersection(_ texts: TextExpression) -> AnchoredExpression {
    AnchoredExpression(matches.mapValues { .all([$0, texts]) })
  }

  /// The texts at the beginning of which a match is.
  var begun: TextExpression {
    .either(
      Anchors.combinations.compactMap { anchors in
        matches[anchors].map { .joined([$0, anchors.contains(.end) ? .empty : .anything]) }
      })
  }

  private var plain: TextExpression { matches[[]] ?? .nothing }
}
