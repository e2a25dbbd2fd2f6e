import Formats
import Foundation
import Testing

@testable import Grammars

/// The public JSON-Schema-Test-Suite: a document is in the grammar of its schema, in some order of its keys, if and only if it
/// is valid; or the schema is refused.
@Suite struct SchemaSuiteTests {
  private struct Outcome {
    var covered = 0
    var refused = 0
    var wrong: [String] = []
    var refusals: [String: Int] = [:]
  }

  /// Whether a label that begins with "xn--" encodes characters validly is not regular: the format writes none.
  private static let known: Set = ["validation of host names: \"xn--4gbwdl.xn--wgbh1c\" is true"]

  @Test func everyDocumentOfTheSuiteIsInTheGrammarIfItIsValid() throws {
    let file = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../Fixtures/schema_suite.jsonl")
    var outcome = Outcome()
    for line in try String(contentsOf: file, encoding: .utf8).split(separator: "\n") {
      let value: JSONValue
      do {
        value = try JSONValue.parse(line.utf8, subject: "suite", limits: JSONLimits(allowsAnyNumber: true))
      } catch { continue }
      let object = try #require(value.object)
      let about = "\(object["file"]!.string!): \(object["about"]!.string!)"
      let tests = try #require(object["tests"]?.array)
      let grammar: Grammar?
      do { grammar = try JSONSchemaCompiler.grammar(for: object["schema"]!, whiteSpace: .none) } catch {
        guard error.reason == "no value satisfies the schema" else {
          outcome.refused += tests.count
          outcome.refusals["\(about): \(error)", default: 0] += tests.count
          continue
        }
        grammar = nil
      }
      for test in tests {
        let isValid = test.array![0].bool!
        let document = test.array![1]
        let isAccepted = grammar.map { accepts(document, $0) } ?? false
        outcome.covered += 1
        if isAccepted != isValid {
          let difference = "\(String(decoding: document.encoded, as: UTF8.self)) is \(isValid)"
          if !Self.known.contains("\(object["about"]!.string!): \(difference)") {
            outcome.wrong.append("\(about): \(difference)")
          }
        }
      }
    }
    if ProcessInfo.processInfo.environment["SCHEMA_SUITE_REPORT"] != nil {
      print("covered \(outcome.covered), refused \(outcome.refused), wrong \(outcome.wrong.count)")
      for (refusal, count) in outcome.refusals.sorted(by: { $0.key < $1.key }) { print("refused:", count, refusal) }
    }
    #expect(outcome.wrong.isEmpty, "\(outcome.wrong.joined(separator: "\n"))")
    #expect(outcome.covered >= 1000)
  }

  private func accepts(_ document: JSONValue, _ grammar: Grammar) -> Bool {
    spellings(of: document).contains { SimpleRecognizer($0).matches(grammar) }
  }

  /// The document with its keys in every order, and its strings escaped only where they must be.
  private func spellings(of value: JSONValue) -> [String] {
    switch value {
    case .integer, .number, .decimal:
      return Array(Set([DecimalNumber(value)!.text, String(decoding: value.encoded, as: UTF8.self)]))
    case .array(let items):
      return items.map(spellings).reduce([""]) { texts, next in
        texts.flatMap { text in next.map { text.isEmpty ? $0 : text + "," + $0 } }
      }.map { "[\($0)]" }
    case .object(let object):
      let pairs = object.pairs.map { pair in
        spellings(of: pair.value).map { String(decoding: JSONValue.string(pair.key).encoded, as: UTF8.self) + ":" + $0 }
      }
      return permutations(pairs).prefix(5_000).flatMap { order in
        order.reduce([""]) { texts, next in texts.flatMap { text in next.map { text.isEmpty ? $0 : text + "," + $0 } } }
      }.map { "{\($0)}" }
    default: return [String(decoding: value.encoded, as: UTF8.self)]
    }
  }

  private func permutations<Element>(_ elements: [Element]) -> [[Element]] {
    guard elements.count > 1 else { return [elements] }
    return elements.indices.flatMap { index in
      var rest = elements
      let first = rest.remove(at: index)
      return permutations(rest).map { [first] + $0 }
    }
  }
}
