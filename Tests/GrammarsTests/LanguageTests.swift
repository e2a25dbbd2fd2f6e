@testable import Grammars
import Testing

private let noTokens = TokenVocabulary(tokens: [], endTokens: [])

/// What a grammar allows is compared with its language by definition.
@Suite struct LanguageTests {
  /// A grammar of one terminal.
  private func grammar(_ expression: ByteExpression) -> Grammar {
    var grammar = Grammar()
    let start = grammar.addSymbol("start")
    grammar.addRule(start, [.terminal(grammar.terminal(expression))])
    return grammar
  }

  /// Compares all texts of up to `length` letters: which are members, and which are prefixes of members of up to `horizon`.
  ///
  /// A member longer than the horizon makes a shorter text a prefix, which the horizon does not show; so what the engine calls a
  /// prefix is compared with what it reaches itself: some extension of it, found breadth first, must be a member by definition.
  private func check(_ grammar: Grammar, length: Int, horizon: Int, _ label: String) throws {
    let alphabet = Array("abc".utf8)
    let all = texts(over: alphabet, upTo: horizon)
    let members = Set(all.filter { NaiveLanguage(text: $0).isMember(of: grammar) })
    var prefixes: Set<[UInt8]> = []
    for member in members { for end in 0...member.count { prefixes.insert(Array(member[..<end])) } }
    guard let compiled = try? CompiledGrammar(grammar, vocabulary: noTokens) else {
      #expect(members.isEmpty, "\(label)")
      return
    }
    for text in all where text.count <= length {
      var matcher = try GrammarMatcher(compiled)
      let accepted = try text.isEmpty || matcher.accept(bytes: text)
      #expect(
        try members.contains(text) == (accepted && matcher.canEnd()),
        "\(label): \(String(decoding: text, as: UTF8.self))")
      if prefixes.contains(text) {
        #expect(accepted, "\(label): prefix \(String(decoding: text, as: UTF8.self))")
      } else if accepted {
        let end = try shortestEnd(matcher)
        let member = try #require(end, "\(label): \(String(decoding: text, as: UTF8.self)) leads nowhere")
        #expect(NaiveLanguage(text: member).isMember(of: grammar), "\(label): \(member)")
      }
    }
  }

  /// A member that begins with the matcher's text, over all bytes.
  private func shortestEnd(_ matcher: GrammarMatcher) throws -> [UInt8]? {
    var level = [matcher]
    for _ in 0..<32 {
      var next: [GrammarMatcher] = []
      for matcher in level {
        var matcher = matcher
        if try matcher.canEnd() { return matcher.bytes }
        for byte in Array("abcx".utf8) {
          var extended = matcher
          if try extended.accept(bytes: [byte]) { next.append(extended) }
        }
      }
      // Every text that the engine accepts must lead to a member, so a part of a large level is enough.
      level = Array(next.prefix(300))
    }
    return nil
  }

  @Test func expressionsMatchTheirDefinition() throws {
    var random = TestRandom(state: 1)
    for index in 0..<60 {
      let expression = random.expression(depth: 3)
      try check(grammar(expression), length: 4, horizon: 5, "\(index): \(expression)")
    }
  }

  @Test func grammarsMatchTheirDefinition() throws {
    var random = TestRandom(state: 2)
    for index in 0..<50 {
      let grammar = random.grammar(symbols: random.number(1...4), depth: index % 3)
      try check(grammar, length: 4, horizon: 5, "\(index): \(grammar.rules) \(grammar.terminals)")
    }
  }

  /// Texts of brackets: nesting, lists with left and with right recursion, hidden left recursion, unit cycles.
  @Test(arguments: 0..<6) func recursionOfEachKindMatches(kind: Int) throws {
    var grammar = Grammar()
    let start = grammar.addSymbol("start")
    let other = grammar.addSymbol("other")
    func terminal(_ text: String) -> Grammar.Element { .terminal(grammar.terminal(.literal(text))) }
    switch kind {
    case 0:
      grammar.addRule(start, [terminal("a"), .symbol(start), terminal("b")])
      grammar.addRule(start, [])
    case 1:
      grammar.addRule(start, [.symbol(start), terminal("a")])
      grammar.addRule(start, [terminal("b")])
    case 2:
      grammar.addRule(start, [terminal("a"), .symbol(other)])
      grammar.addRule(other, [terminal("b"), .symbol(start)])
      grammar.addRule(other, [terminal("c")])
    case 3:
      grammar.addRule(start, [.symbol(other), .symbol(start), terminal("a")])
      grammar.addRule(start, [terminal("b")])
      grammar.addRule(other, [])
      grammar.addRule(other, [terminal("c")])
    case 4:
      grammar.addRule(start, [.symbol(other)])
      grammar.addRule(other, [.symbol(start)])
      grammar.addRule(other, [terminal("a"), .symbol(other), terminal("a")])
      grammar.addRule(other, [terminal("a")])
    default:
      grammar.addRule(start, [.symbol(start), .symbol(start)])
      grammar.addRule(start, [terminal("a")])
      grammar.addRule(start, [terminal("bc")])
      grammar.addRule(start, [])
    }
    try check(grammar, length: 6, horizon: 7, "\(kind)")
  }
}
