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
}
