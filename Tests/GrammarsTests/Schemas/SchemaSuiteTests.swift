import Formats
import Foundation
import Testing

@testable import Grammars

/// The public JSON-Schema-Test-Suite: a document is in the grammar of its schema, in some order of its keys, if and only if it
/// is valid; or the schema is refused.
@Suite struct SchemaSuiteTests {
  @Test func everyDocumentOfTheSuiteIsInTheGrammarIfItIsValid() throws {
    var (covered, refused) = (0, 0)
    var wrong: Set<String> = []
    var refusals: [String: Int] = [:]
    for one in try SchemaSuite().cases {
      let grammar: Grammar?
      switch SchemaSuite.outcome(of: one.schema) {
      case .grammar(let found): grammar = found
      case .refused(let error):
        refused += one.tests.count
        refusals["\(one.about): \(error)", default: 0] += one.tests.count
        continue
      }
      covered += one.tests.count
      for test in one.tests {
        let texts = SchemaSuite.spellings(of: test.document)
        let isAccepted = grammar.map { grammar in texts.contains { SimpleRecognizer($0).matches(grammar) } } ?? false
        if isAccepted != test.isValid { wrong.insert("\(one.about): \(texts[0]) is \(test.isValid)") }
      }
    }
    if ProcessInfo.processInfo.environment["SCHEMA_SUITE_REPORT"] != nil {
      for (refusal, count) in refusals.sorted(by: { $0.key < $1.key }) { print("refused:", count, refusal) }
    }
    #expect(wrong == SchemaSuite.known)
    #expect(covered == 3_435 && refused == 312)
  }

  /// Documents as tokens under masks, as a model writes them: the grammar has a text if and only if each of its tokens is in the
  /// mask of its place and the text may end.
  @Test func documentsAsTokensAreHeldToMasks() throws {
    let vocabulary = TestVocabulary.small
    let ids = Dictionary(zip(vocabulary.tokens, vocabulary.tokens.indices), uniquingKeysWith: { first, _ in first })
    var random = SeededGenerator(state: 5)
    var (accepted, rejected) = (0, 0)
    for one in try SchemaSuite().cases {
      guard case .grammar(let grammar?) = SchemaSuite.outcome(of: one.schema) else { continue }
      let compiled = try CompiledGrammar(grammar, vocabulary: vocabulary)
      for test in one.tests {
        let texts = SchemaSuite.spellings(of: test.document)
        let member = texts.first { SimpleRecognizer($0).matches(grammar) }
        guard let text = member ?? texts.first else { continue }
        let isAccepted = try follow(text, compiled, ids, &random)
        #expect(isAccepted == (member != nil), "\(one.about): \(text)")
        if isAccepted { accepted += 1 } else { rejected += 1 }
      }
    }
    #expect(accepted >= 1_876 && rejected >= 1_429)
  }

  /// Whether a text, as tokens that are drawn, stays within the masks to its end.
  private func follow(
    _ text: String, _ compiled: CompiledGrammar, _ ids: [[UInt8]: Int], _ random: inout SeededGenerator
  ) throws -> Bool {
    let vocabulary = compiled.vocabulary
    var check = try MaskCheck(compiled)
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      let lengths = (1...min(8, rest.count)).filter { ids[Array(rest.prefix($0))] != nil }
      let token = try #require(lengths.randomElement(using: &random).flatMap { ids[Array(rest.prefix($0))] })
      try check.computeMask()
      let isAccepted = try check.accept(token)
      #expect(isAccepted == check.allows(token), "\(text) at \(rest.count) bytes from its end")
      guard isAccepted else { return false }
      rest = rest.dropFirst(vocabulary.tokens[token].count)
    }
    try check.computeMask()
    return vocabulary.endTokens.allSatisfy(check.allows)
  }
}
