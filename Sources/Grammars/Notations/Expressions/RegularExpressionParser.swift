/// Parses regular expressions in the notation of ECMA-262 with Unicode characters, which JSON Schema's `pattern` uses and
/// which Python's and Rust's notations share for what is regular.
///
/// A lookahead is read where it tells something of the whole text, at its beginning, and where what follows it reaches the text's end.
/// Other lookaround, word boundaries and backreferences are refused: what they match is not told by the text alone.
public struct RegularExpressionParser {
  private static let longest = 20_000
  private static let deepest = 100
  private static let mostRepetitions = 1_000_000
  private static let mostLookaheads = 100

  /// What differs between the notations that have regular expressions in them.
  struct Options {
    /// The scalars that the dot matches.
    var dot = ScalarSet.lineEnds.inverted
    var ignoresCase = false
    var lookahead = LookaheadPlace.atStart
  }

  /// Where the text begins, which lookaheads tell something of.
  enum LookaheadPlace {
    /// The expression is one of the parts of a text, of which it does not tell what follows.
    case nowhere
    /// Where the expression begins, or one of its alternatives.
    case atStart
    /// There, behind `^`.
    case behindAnchor
  }

  private struct Lookahead {
    let position: Int
    /// What the rest of the text has to be.
    let rest: TextExpression
    /// Whether there is an anchor `^` in it.
    let hasStart: Bool
  }

  /// An alternative of the whole expression.
  private struct Branch {
    var expression: AnchoredExpression
    /// What else the whole text has to be.
    var conditions: [TextExpression] = []
  }

  private var scanner: ScalarScanner
  private let budget: CompilationBudget
  private let options: Options
  private var depth = 0
  private var lookaheadCount = 0

  /// The texts, as UTF-8, that an expression matches as a whole.
  /// - Throws: `NotationError`
  public static func expression(
    _ pattern: String, budget: CompilationBudget = CompilationBudget()
  ) throws(NotationError) -> ByteExpression {
    let text = try wholeMatch(pattern, budget: budget)
    do throws(CompilationBudget.Exceeded) { return try text.bytes(written: .raw, budget) } catch {
      throw ScalarScanner(pattern).error(error.description, at: 0)
    }
  }

  /// The texts that an expression matches as a whole.
  static func wholeMatch(
    _ pattern: String, options: Options = Options(), budget: CompilationBudget = CompilationBudget()
  ) throws(NotationError) -> TextExpression {
    var parser = RegularExpressionParser(pattern, budget, options)
    return try parser.parse { $0.whole }
  }

  /// The texts somewhere in which an expression matches.
  static func search(
    _ pattern: String, budget: CompilationBudget = CompilationBudget()
  ) throws(NotationError) -> TextExpression {
    var parser = RegularExpressionParser(pattern, budget, Options(lookahead: .behindAnchor))
    return try parser.parse { $0.searched }
  }

  private init(_ pattern: String, _ budget: CompilationBudget, _ options: Options) {
    scanner = ScalarScanner(pattern)
    self.budget = budget
    self.options = options
  }

  private func spend(_ units: Int) throws(NotationError) {
    do throws(CompilationBudget.Exceeded) { try budget.spend(units) } catch {
      throw scanner.error(error.description, at: 0)
    }
  }

  /// Parses the expression.
  /// - Parameter texts: the texts that an expression without lookaheads stands for
  private mutating func parse(
    _ texts: (AnchoredExpression) -> TextExpression
  ) throws(NotationError) -> TextExpression {
    guard scanner.count <= Self.longest else {
      throw scanner.error("a regular expression of more than \(Self.longest) characters")
    }
    try spend(scanner.count)
    var branches = [try branch()]
    while scanner.skip("|") { branches.append(try branch()) }
    guard scanner.isAtEnd else { throw scanner.error("a closing parenthesis without an opening one") }
    let free = branches.filter(\.conditions.isEmpty).map(\.expression)
    let bound = branches.filter { !$0.conditions.isEmpty }.map { branch in
      TextExpression.all([texts(branch.expression)] + branch.conditions)
    }
    if free.isEmpty { return .either(bound) }
    return .either([texts(free.count == 1 ? free[0] : .either(free))] + bound)
  }

  private mutating func branch() throws(NotationError) -> Branch {
    let start = scanner.position
    let isAnchored = scanner.skip("^")
    var conditions: [TextExpression] = []
    if options.lookahead == .atStart || (options.lookahead == .behindAnchor && isAnchored) {
      while let lookahead = try lookahead() { conditions.append(lookahead.rest) }
    }
    if conditions.isEmpty {
      scanner.position = start
      return Branch(expression: try sequence())
    }
    let rest = try sequence()
    return Branch(expression: isAnchored ? .start.followed(by: rest) : rest, conditions: conditions)
  }

  /// A lookahead; `nil` if there is none.
  private mutating func lookahead() throws(NotationError) -> Lookahead? {
    let start = scanner.position
    let isPositive = scanner.skip("(?=")
    guard isPositive || scanner.skip("(?!") else { return nil }
    lookaheadCount += 1
    guard lookaheadCount <= Self.mostLookaheads else {
      throw scanner.error("more than \(Self.mostLookaheads) lookaheads", at: start)
    }
    let inner = try groupBody(from: start)
    try spend(inner.size)
    if try quantifier() != nil { throw scanner.error("a lookahead that is repeated", at: start) }
    return Lookahead(
      position: start, rest: isPositive ? inner.begun : .complement(inner.begun), hasStart: inner.hasStart)
  }

  private mutating func alternatives() throws(NotationError) -> AnchoredExpression {
    var parts = [try sequence()]
    while scanner.skip("|") { parts.append(try sequence()) }
    return parts.count == 1 ? parts[0] : .either(parts)
  }

  private mutating func sequence() throws(NotationError) -> AnchoredExpression {
    var parts: [AnchoredExpression] = []
    var lookaheads: [(index: Int, lookahead: Lookahead)] = []
    while let next = scanner.current, next != "|", next != ")" {
      if options.lookahead != .nowhere, let lookahead = try lookahead() {
        lookaheads.append((parts.count, lookahead))
      } else {
        parts.append(try quantified())
      }
    }
    // What stands behind the last one first.
    for (index, lookahead) in lookaheads.reversed() {
      let rest = try joined(parts[index...])
      guard rest.reachesEnd, !lookahead.hasStart else {
        let reason = "a lookahead is supported only behind ^ at the beginning, or where $ ends what follows"
        throw scanner.error(reason, at: lookahead.position)
      }
      parts[index...] = [rest.intersection(lookahead.rest)]
    }
    return try joined(parts[...])
  }

  private func joined(_ parts: ArraySlice<AnchoredExpression>) throws(NotationError) -> AnchoredExpression {
    // Runs without anchors are joined first, so that a long sequence is not copied for each part.
    var result = AnchoredExpression(.empty)
    var run: [TextExpression] = []
    for part in parts {
      if part.isPlain {
        run.append(part.whole)
      } else {
        // Each part with an anchor copies what stands before it.
        try spend(result.size + run.count + part.size)
        result = result.followed(by: AnchoredExpression(.joined(run))).followed(by: part)
        run = []
      }
    }
    return result.followed(by: AnchoredExpression(.joined(run)))
  }

  private mutating func quantified() throws(NotationError) -> AnchoredExpression {
    let start = scanner.position
    let part = try atom()
    guard let (minimum, maximum) = try quantifier() else { return part }
    // A lazy quantifier matches the same texts.
    _ = scanner.skip("?")
    if let next = scanner.current, "*+?".unicodeScalars.contains(next) {
      throw scanner.error("\"\(next)\" after a quantifier")
    }
    guard let result = part.repeated(minimum, maximum) else {
      throw scanner.error("an anchor in a part that is repeated", at: start)
    }
    return result
  }

  private mutating func quantifier() throws(NotationError) -> (minimum: Int, maximum: Int?)? {
    if scanner.skip("*") { return (0, nil) }
    if scanner.skip("+") { return (1, nil) }
    if scanner.skip("?") { return (0, 1) }
    let start = scanner.position
    guard scanner.skip("{"), let counts = try scanner.counts(limit: Self.mostRepetitions) else {
      scanner.position = start
      return nil
    }
    return counts
  }

  // MARK: atoms

  private mutating func atom() throws(NotationError) -> AnchoredExpression {
    let start = scanner.position
    guard let scalar = scanner.next() else { throw scanner.error("the expression ends early") }
    switch scalar {
    case "^": return .start
    case "$": return .end
    case ".": return AnchoredExpression(.scalar(options.dot))
    case "(": return try group(from: start)
    case "[": return AnchoredExpression(.scalar(try characterClass(from: start)))
    case "\\": return AnchoredExpression(try escape(from: start))
    case "*", "+", "?": throw scanner.error("nothing before \"\(scalar)\" that it could repeat", at: start)
    default: return AnchoredExpression(.scalar(try cased(ScalarSet(scalar...scalar))))
    }
  }

  private mutating func group(from start: Int) throws(NotationError) -> AnchoredExpression {
    if scanner.skip("?") {
      if scanner.skip("=") || scanner.skip("!") { throw scanner.error("lookahead is not regular here", at: start) }
      if scanner.skip("<=") || scanner.skip("<!") { throw scanner.error("lookbehind is not regular here", at: start) }
      if scanner.skip("P<") || scanner.skip("<") {
        guard scanner.skipName(), scanner.skip(">") else { throw scanner.error("a group's name is expected") }
      } else if !scanner.skip(":") {
        throw scanner.error("a group of unknown kind", at: start)
      }
    }
    return try groupBody(from: start)
  }

  /// What is in a group, up to its closing parenthesis.
  private mutating func groupBody(from start: Int) throws(NotationError) -> AnchoredExpression {
    depth += 1
    guard depth <= Self.deepest else { throw scanner.error("groups more than \(Self.deepest) deep", at: start) }
    let inner = try alternatives()
    depth -= 1
    guard scanner.skip(")") else { throw scanner.error("a group that does not end", at: start) }
    return inner
  }

  private mutating func escape(from start: Int) throws(NotationError) -> TextExpression {
    guard let scalar = scanner.current else { throw scanner.error("a backslash at the end", at: start) }
    switch scalar {
    case "b", "B": throw scanner.error("the word boundary \\\(scalar) is not supported", at: start)
    case "1"..."9", "k": throw scanner.error("the backreference \\\(scalar) is not regular", at: start)
    case "A", "Z", "z", "G": throw scanner.error("the escape \\\(scalar) is not supported; ^ and $ are", at: start)
    default:
      let set = try setEscape(from: start)
      return .scalar(set.single == nil ? set : try cased(set))
    }
  }

  /// The set of an escape after its backslash.
  private mutating func setEscape(from start: Int) throws(NotationError) -> ScalarSet {
    if options.ignoresCase, scanner.current == "p" || scanner.current == "P" {
      throw scanner.error("a Unicode property where case is ignored is not supported", at: start)
    }
    let set = try scanner.classEscape(from: start)
    try spend(set.ranges.count)
    return set
  }

  /// The set, with the other cases of its letters where case is ignored.
  private func cased(_ set: ScalarSet) throws(NotationError) -> ScalarSet {
    guard options.ignoresCase else { return set }
    try spend(set.single == nil ? 100 : 1)
    return set.ignoringCase
  }

  private mutating func characterClass(from start: Int) throws(NotationError) -> ScalarSet {
    let isNegated = scanner.skip("^")
    var sets: [ScalarSet] = []
    while !scanner.skip("]") {
      guard !scanner.isAtEnd else { throw scanner.error("a character class that does not end", at: start) }
      let position = scanner.position
      let first = try classMember()
      guard scanner.current == "-", let after = scanner.peek(1), after != "]" else {
        sets.append(first.single == nil ? first : try cased(first))
        continue
      }
      scanner.position += 1
      let second = try classMember()
      guard let low = first.single, let high = second.single else {
        // Beside a class such as \w the hyphen stands for itself.
        sets += [first, ScalarSet("-"), second]
        continue
      }
      guard low <= high else { throw scanner.error("a range whose ends are in the wrong order", at: position) }
      sets.append(try cased(ScalarSet([low...high])))
    }
    let set = ScalarSet(sets.flatMap(\.ranges))
    return isNegated ? set.inverted : set
  }

  private mutating func classMember() throws(NotationError) -> ScalarSet {
    let start = scanner.position
    guard let scalar = scanner.next() else { throw scanner.error("a character class that does not end") }
    guard scalar == "\\" else { return ScalarSet(scalar...scalar) }
    return scanner.skip("b") ? ScalarSet("\u{08}") : try setEscape(from: start)
  }
}
