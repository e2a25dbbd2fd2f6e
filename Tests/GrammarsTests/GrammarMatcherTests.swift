import Testing

@testable import Grammars

/// What a matcher allows, held to exhaustive search.
@Suite struct GrammarMatcherTests {
  private static let letters = "ab"
  private static let maximumLength = 6

  /// A vocabulary of single letters and some strings of several.
  private static let tokens = ["a", "b", "ab", "ba", "aab", "bbb", "abab", ""]
  private static let vocabulary = TokenVocabulary(tokens: tokens.map { Array($0.utf8) }, endTokens: [tokens.count - 1])

  private static let texts: [String] = {
    var (all, last) = ([""], [""])
    for _ in 0..<maximumLength {
      last = last.flatMap { text in letters.map { text + String($0) } }
      all += last
    }
    return all
  }()

  private static func matcher(_ grammar: Grammar, after text: String) throws -> GrammarMatcher? {
    var matcher = try GrammarMatcher(try CompiledGrammar(grammar, vocabulary: vocabulary))
    return try matcher.accept(bytes: Array(text.utf8)) ? matcher : nil
  }

  private static func number(_ random: inout SeededGenerator, _ bound: Int) -> Int {
    Int.random(in: 0..<bound, using: &random)
  }

  private static func expression(_ random: inout SeededGenerator, depth: Int) -> ByteExpression {
    func part() -> ByteExpression { expression(&random, depth: depth - 1) }
    switch depth == 0 ? number(&random, 3) : number(&random, 9) {
    case 0: return .byte(ByteSet([0x61]))
    case 1: return .byte(ByteSet([0x62]))
    case 2: return .byte(ByteSet([0x61, 0x62]))
    case 3, 4: return .sequence([part(), part()])
    case 5: return .alternatives([part(), part()])
    case 6:
      let minimum = number(&random, 2)
      return .repetition(part(), minimum: minimum, maximum: number(&random, 2) == 0 ? nil : minimum + 1)
    case 7: return .intersection([part(), part()])
    default: return .complement(part())
    }
  }

  private static func grammar(_ random: inout SeededGenerator) -> Grammar {
    var grammar = Grammar()
    let symbols = (0..<3).map { grammar.addSymbol("s\($0)") }
    for symbol in symbols {
      for _ in 0...number(&random, 3) {
        let elements = (0..<number(&random, 4)).map { _ -> Grammar.Element in
          number(&random, 2) == 0
            ? .symbol(symbols[number(&random, 3)])
            : .terminal(grammar.terminal(expression(&random, depth: 1)))
        }
        grammar.addRule(symbol, elements)
      }
    }
    return grammar
  }

  private static func mask(_ matcher: inout GrammarMatcher) throws -> UInt32 {
    var words: [UInt32] = [.max]
    var failure: GrammarError?
    words.withUnsafeMutableBufferPointer { words in
      do throws(GrammarError) { try matcher.computeMask(into: words) } catch { failure = error }
    }
    if let failure { throw failure }
    return words[0]
  }

  /// A text is complete exactly if it is in the language, and every beginning of one is accepted.
  private static func check(_ grammar: Grammar, _ comment: String) throws {
    let members = Set(texts.filter { SimpleRecognizer($0).matches(grammar) })
    let compiled: CompiledGrammar
    do throws(GrammarError) { compiled = try CompiledGrammar(grammar, vocabulary: vocabulary) } catch {
      #expect(members.isEmpty, "\(comment) has texts")
      return
    }
    for text in texts {
      var matcher = try GrammarMatcher(compiled)
      let isAccepted = try text.isEmpty || matcher.accept(bytes: Array(text.utf8))
      let canEnd = try isAccepted && matcher.canEnd()
      #expect(canEnd == members.contains(text), "\(comment): '\(text)'")
      if members.contains(where: { $0.hasPrefix(text) }) { #expect(isAccepted, "\(comment): '\(text)' begins a text") }
      if !isAccepted { continue }
      // The mask is what can be accepted, and undoing it leads back.
      let mask = try mask(&matcher)
      for (token, bytes) in tokens.enumerated() {
        let before = matcher.tokenCount
        let isAllowed = try matcher.accept(token: token)
        #expect(isAllowed == (mask >> UInt32(token) & 1 == 1), "\(comment): '\(text)' + '\(bytes)'")
        matcher.truncate(toTokens: before)
      }
      #expect(mask >> UInt32(tokens.count) == 0)
      // Only the end is left. A token continues the text wherever anything does, because each letter is one.
      let isFinished = try matcher.isFinished()
      #expect(isFinished == (canEnd && mask == 1 << UInt32(tokens.count - 1)))
    }
  }

  @Test(arguments: 0..<60) func randomExpressions(seed: Int) throws {
    var random = SeededGenerator(state: UInt64(seed))
    let expression = Self.expression(&random, depth: 3)
    try Self.check(Grammar(expression), "\(expression)")
  }

  @Test(arguments: 0..<60) func randomGrammars(seed: Int) throws {
    var random = SeededGenerator(state: UInt64(seed) + 1000)
    let grammar = Self.grammar(&random)
    try Self.check(grammar, "\(grammar.rules) \(grammar.terminals)")
  }

  /// What is accepted can be completed: from a text that may go on, some tokens lead to a complete one.
  @Test(arguments: 0..<40) func nothingLeadsNowhere(seed: Int) throws {
    var random = SeededGenerator(state: UInt64(seed) + 2000)
    let grammar = Self.grammar(&random)
    guard let compiled = try? CompiledGrammar(grammar, vocabulary: Self.vocabulary) else { return }
    var matcher = try GrammarMatcher(compiled)
    for _ in 0..<12 {
      #expect(try canBeCompleted(matcher), "\(grammar.rules)")
      let mask = try Self.mask(&matcher)
      guard
        let token = (0..<Self.tokens.count - 1).filter({ mask >> UInt32($0) & 1 == 1 }).randomElement(using: &random)
      else { break }
      let isAccepted = try matcher.accept(token: token)
      #expect(isAccepted)
    }
  }

  private func canBeCompleted(_ matcher: GrammarMatcher) throws -> Bool {
    var level = [matcher]
    for _ in 0..<8 {
      var next: [GrammarMatcher] = []
      for var matcher in level {
        if try matcher.canEnd() { return true }
        for byte in Self.letters.utf8 {
          var copy = matcher
          if try copy.accept(bytes: [byte]) { next.append(copy) }
        }
      }
      level = Array(next.prefix(200))
    }
    return false
  }

  @Test func forcedBytesAreTheOnlyWay() throws {
    var matcher = try #require(try Self.matcher(Grammar(.literal("abba")), after: "a"))
    let rest = try matcher.forcedBytes()
    #expect(rest == Array("bba".utf8))
    let two = Grammar(.alternatives([.literal("abab"), .literal("abba")]))
    var open = try GrammarMatcher(try CompiledGrammar(two, vocabulary: Self.vocabulary))
    let common = try open.forcedBytes()
    #expect(common == Array("ab".utf8))
    var ended = try #require(try Self.matcher(Grammar(.sequence([.literal("a"), .literal("b").optional])), after: "a"))
    let none = try ended.forcedBytes()
    #expect(none.isEmpty)
  }

  // MARK: hostile grammars

  @Test func hugeCountsAreCountedNotWrittenOut() throws {
    let many = Grammar(.repetition(.byte(ByteSet([0x61])), minimum: 1_000_000, maximum: 1_000_000))
    var matcher = try #require(try Self.matcher(many, after: String(repeating: "a", count: 500)))
    let canEnd = try matcher.canEnd()
    #expect(!canEnd)
  }

  @Test func aGrammarWithoutTextsIsAnError() {
    var grammar = Grammar()
    let symbol = grammar.addSymbol("root")
    grammar.addRule(symbol, [.symbol(symbol)])
    #expect(throws: GrammarError.derivesNothing(symbol: "root")) {
      try CompiledGrammar(grammar, vocabulary: Self.vocabulary)
    }
    let nothing = ByteExpression.intersection([.literal("a"), .literal("b")])
    #expect(throws: GrammarError.self) { try CompiledGrammar(Grammar(nothing), vocabulary: Self.vocabulary) }
  }

  /// A text that nests without end is refused at some depth, and nothing overflows.
  @Test func deepNestingIsBounded() throws {
    var grammar = Grammar()
    let root = grammar.addSymbol("root")
    let (open, close) = (grammar.terminal(.literal("a")), grammar.terminal(.literal("b")))
    grammar.addRule(root, [.terminal(open), .symbol(root), .terminal(close)])
    grammar.addRule(root, [])
    var limits = GrammarLimits()
    limits.memory = 8 << 20
    var matcher = try GrammarMatcher(try CompiledGrammar(grammar, vocabulary: Self.vocabulary, limits: limits))
    let step = [UInt8](repeating: 0x61, count: 1_000)
    #expect(throws: GrammarError.self) {
      for _ in 0..<1_000 { _ = try matcher.accept(bytes: step) }
    }
    #expect(matcher.tokenCount >= 2)
  }

  @Test func manyChoices() throws {
    let choices = (0..<5_000).map { "choice\($0 * 7919)" }
    var matcher = try #require(try Self.matcher(Grammar.choice(choices), after: "choice"))
    let (early, isAccepted, canEnd) = (
      try matcher.canEnd(), try matcher.accept(bytes: Array("7919".utf8)), try matcher.canEnd()
    )
    #expect(!early && isAccepted && canEnd)
  }
}
