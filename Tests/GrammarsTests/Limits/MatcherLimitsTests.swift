import Testing

@testable import Grammars

/// What a text may cost while others are answered.
@Suite struct MatcherLimitsTests {
  private static let vocabulary = TokenVocabulary(tokens: (0...255).map { [UInt8($0)] }, endTokens: [])

  /// Which of the last letters were an "a": 2ⁿ states.
  private static func remembering(_ letters: Int) -> Grammar {
    let any = ByteExpression.byte(ByteSet("ab".utf8))
    return Grammar(
      .sequence([
        .repetition(any, minimum: 0, maximum: nil), .literal("a"),
        .repetition(any, minimum: letters, maximum: letters), .literal("c"),
      ]))
  }

  private static func text(_ count: Int, seed: UInt64) -> [UInt8] {
    var random = SeededGenerator(state: seed)
    return (0..<count).map { _ in Bool.random(using: &random) ? 0x61 : 0x62 }
  }

  @Test func aTokenThatNeedsTooMuchWorkFailsAlone() throws {
    var limits = GrammarLimits()
    limits.tokenWork = 2_000
    let compiled = try CompiledGrammar(Self.remembering(60), vocabulary: Self.vocabulary, limits: limits)
    var (hostile, other) = (try GrammarMatcher(compiled), try GrammarMatcher(compiled))
    #expect(throws: GrammarError.tooMuchWork(limit: 2_000)) {
      _ = try hostile.accept(bytes: Self.text(5_000, seed: 1))
    }
    #expect(hostile.tokenCount == 0)
    for byte in Self.text(20, seed: 2) {
      let isAccepted = try other.accept(token: Int(byte))
      #expect(isAccepted)
    }
  }

  /// All operations at one token share its work, and the next token has its own.
  @Test func operationsShareTheWorkOfAToken() throws {
    var limits = GrammarLimits()
    limits.tokenWork = 3_000
    let compiled = try CompiledGrammar(Self.remembering(40), vocabulary: Self.vocabulary, limits: limits)
    var matcher = try GrammarMatcher(compiled)
    #expect(throws: GrammarError.tooMuchWork(limit: 3_000)) {
      for seed in 0..<1_000 {
        _ = try matcher.accept(bytes: Self.text(30, seed: UInt64(seed)))
        matcher.truncate(toTokens: 0)
      }
    }
    var tokens = try GrammarMatcher(compiled)
    for byte in Self.text(1_000, seed: 7) {
      let isAccepted = try tokens.accept(token: Int(byte))
      #expect(isAccepted)
    }
  }

  @Test func aTextHasALimitOfWork() throws {
    var limits = GrammarLimits()
    limits.textWork = 50_000
    let compiled = try CompiledGrammar(Self.remembering(60), vocabulary: Self.vocabulary, limits: limits)
    var matcher = try GrammarMatcher(compiled)
    #expect(throws: GrammarError.tooMuchWorkForText(limit: 50_000)) {
      for byte in Self.text(20_000, seed: 3) { _ = try matcher.accept(token: Int(byte)) }
    }
    #expect(matcher.tokenCount > 100)
    // A copy cannot do what the text may no longer cost.
    var copy = matcher
    #expect(throws: GrammarError.tooMuchWorkForText(limit: 50_000)) {
      for byte in Self.text(2_000, seed: 5) { _ = try copy.accept(token: Int(byte)) }
    }
    var other = try GrammarMatcher(compiled)
    let isAccepted = try other.accept(bytes: Array("ab".utf8))
    #expect(isAccepted)
  }

  /// What one operation adds to memory is in proportion to its work.
  @Test func oneOperationTakesLittleMemory() throws {
    var limits = GrammarLimits()
    limits.textWork = .max
    let compiled = try CompiledGrammar(Self.remembering(100), vocabulary: Self.vocabulary, limits: limits)
    var matcher = try GrammarMatcher(compiled)
    let before = compiled.memory
    #expect(throws: GrammarError.tooMuchWork(limit: limits.tokenWork)) {
      _ = try matcher.accept(bytes: Self.text(100_000, seed: 4))
    }
    #expect(compiled.memory - before < 100 * limits.tokenWork)
  }

  /// Texts of a grammar go on after its states were thrown away, and the grammar's memory stays within its limit.
  @Test func statesAreThrownAwayAndMadeAgain() throws {
    var limits = GrammarLimits()
    limits.memory = 3_000_000
    limits.textWork = .max
    let memory = GrammarMemory(limit: 1 << 30)
    let compiled = try CompiledGrammar(Self.remembering(60), vocabulary: Self.vocabulary, limits: limits, pool: memory)
    let base = compiled.memory
    for seed in 0..<40 {
      var matcher = try GrammarMatcher(compiled)
      for byte in Self.text(60, seed: UInt64(seed)) {
        let isAccepted = try matcher.accept(token: Int(byte))
        #expect(isAccepted)
      }
      #expect(compiled.memory - base < 2 * limits.memory)
      #expect(memory.used == compiled.memory)
    }
  }

  /// What other texts made the grammar use does not count against a new text, even after the states were thrown away.
  @Test func othersStatesDoNotEndAText() throws {
    var limits = GrammarLimits()
    limits.memory = 1_000_000
    limits.textWork = .max
    let compiled = try CompiledGrammar(Self.remembering(60), vocabulary: Self.vocabulary, limits: limits)
    let base = compiled.memory
    // Until the states were thrown away and more than half of the limit is in use again.
    var texts: UInt64 = 0
    repeat {
      var matcher = try GrammarMatcher(compiled)
      for byte in Self.text(60, seed: texts) {
        let isAccepted = try matcher.accept(token: Int(byte))
        #expect(isAccepted)
      }
      texts += 1
    } while texts < 3_000
      && (compiled.withStates { $0.epoch } == 0 || compiled.memory - base < limits.memory * 2 / 3)
    #expect(texts < 3_000)
    var new = try GrammarMatcher(compiled)
    let isAccepted = try new.accept(bytes: Array("ab".utf8))
    #expect(isAccepted)
  }

  /// Drafts have work of their own, so that they never end a text.
  @Test func draftsDoNotEndAText() throws {
    var limits = GrammarLimits()
    limits.textWork = 50_000
    let compiled = try CompiledGrammar(Self.remembering(60), vocabulary: Self.vocabulary, limits: limits)
    let matcher = try GrammarMatcher(compiled)
    #expect(throws: GrammarError.tooMuchWorkForText(limit: 50_000)) {
      for seed in UInt64(0)..<10_000 {
        var draft = matcher.forDrafts()
        for byte in Self.text(20, seed: seed) { _ = try draft.accept(token: Int(byte)) }
      }
    }
    var text = matcher
    let isAccepted = try text.accept(bytes: Array("ab".utf8))
    #expect(isAccepted)
  }

  /// What a draft had to read again after the states were thrown away is not read once more by the text.
  @Test(arguments: [true, false]) func aDraftReadsTheTextAgainForTheTextToo(fails: Bool) throws {
    let compiled = try CompiledGrammar(Self.remembering(60), vocabulary: Self.vocabulary)
    var matcher = try GrammarMatcher(compiled)
    let text = Self.text(100, seed: 6)
    for byte in text { _ = try matcher.accept(token: Int(byte)) }
    compiled.withStates { $0.reset() }
    let before = matcher.epoch
    let ahead = try? matcher.lookAhead { (draft) throws(GrammarError) in
      for byte in "ab".utf8 { _ = try draft.accept(token: Int(byte)) }
      if fails { throw .noStart }
      return draft.tokenCount
    }
    #expect(ahead == (fails ? nil : 102))
    #expect(before == 0 && matcher.epoch == 1)
    #expect(matcher.tokenCount == 100 && matcher.bytes == text)
    // The states are those of the text, and can be taken back.
    var other = try GrammarMatcher(compiled)
    _ = try other.accept(bytes: text)
    for count in [100, 40, 0] {
      matcher.truncate(toTokens: count)
      other.truncate(toTokens: 0)
      _ = try other.accept(bytes: text.prefix(count))
      #expect(try Self.nextBytes(matcher) == Self.nextBytes(other))
    }
  }

  private static func nextBytes(_ matcher: GrammarMatcher) throws -> [UInt8] {
    try (0...255).filter { byte in
      var copy = matcher
      return try copy.accept(bytes: [byte])
    }
  }

  /// An operation with little patience ends early and changes nothing; what it found helps the next try.
  @Test func patienceLimitsEachTry() throws {
    var limits = GrammarLimits()
    limits.tokenWork = 10_000_000
    let compiled = try CompiledGrammar(Self.remembering(60), vocabulary: Self.vocabulary, limits: limits)
    var matcher = try GrammarMatcher(compiled)
    let text = Self.text(300, seed: 8)
    func tries(_ operation: (inout GrammarMatcher) throws(GrammarError) -> Bool) throws -> Int {
      for count in 1...1_000 {
        matcher.patience = 3_000
        do throws(GrammarError) {
          let isAccepted = try operation(&matcher)
          #expect(isAccepted && matcher.patience! >= 0)
          return count
        } catch { #expect(error == .unfinished) }
      }
      return .max
    }
    let count = try tries { (matcher) throws(GrammarError) in try matcher.accept(bytes: text) }
    #expect((5..<1_000).contains(count))
    #expect(matcher.bytes == text && matcher.tokenCount == 1)
    // The text is read again in several tries, too.
    compiled.withStates { $0.reset() }
    let again = try tries { (matcher) throws(GrammarError) in try !matcher.canEnd() }
    #expect((5..<1_000).contains(again))
    matcher.patience = nil
    var other = try GrammarMatcher(compiled)
    _ = try other.accept(bytes: text)
    #expect(try Self.nextBytes(matcher) == Self.nextBytes(other))
  }

  /// With patience, an operation does not wait for one that may take long.
  @Test func patientOperationsDoNotWait() throws {
    let compiled = try CompiledGrammar(Self.remembering(60), vocabulary: Self.vocabulary)
    var matcher = try GrammarMatcher(compiled)
    matcher.patience = 1_000
    _ = compiled.withStates { _ in
      #expect(throws: GrammarError.unfinished) { _ = try matcher.canEnd() }
    }
    #expect(matcher.patience == 1_000)
    let canEnd = try matcher.canEnd()
    #expect(!canEnd)
  }

  @Test func grammarsShareALimitOfMemory() throws {
    let memory = GrammarMemory(limit: 1)
    do {
      let compiled = try CompiledGrammar(Self.remembering(60), vocabulary: Self.vocabulary, pool: memory)
      #expect(memory.isFull && compiled.memoryLimit(replayed: 0) == compiled.limits.memory / 8)
      #expect(compiled.memoryLimit(replayed: 5_000_000) == 10_000_000)
    }
    #expect(memory.used == 0 && !memory.isFull)
  }
}
