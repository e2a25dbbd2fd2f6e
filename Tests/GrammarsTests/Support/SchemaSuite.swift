import Formats
import Foundation

@testable import Grammars

/// The public JSON-Schema-Test-Suite: schemas with documents that are valid or not.
struct SchemaSuite {
  struct Case {
    /// The file of the suite and what the schema is about.
    let about: String
    let schema: JSONValue
    let tests: [(isValid: Bool, document: JSONValue)]
  }

  enum Outcome {
    /// No document is valid under a schema that has no grammar.
    case grammar(Grammar?)
    case refused(SchemaError)
  }

  /// Whether a label that begins with "xn--" encodes characters validly is not regular: the formats write none.
  static let known: Set = [
    #"draft2020-12/optional/format/hostname.json: validation of host names: "xn--4gbwdl.xn--wgbh1c" is true"#
  ]

  let cases: [Case]

  /// Reads the suite.
  /// - Throws: if a line cannot be read
  init() throws {
    let file = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../Fixtures/schema_suite.jsonl")
    cases = try String(contentsOf: file, encoding: .utf8).split(separator: "\n").enumerated().map {
      number, line -> Case in
      let subject = "line \(number + 1) of the suite"
      let value = try JSONValue.parse(line.utf8, subject: subject, limits: JSONLimits(allowsAnyNumber: true))
      guard let object = value.object, let file = object["file"]?.string, let about = object["about"]?.string,
        let schema = object["schema"], let tests = object["tests"]?.array
      else { throw CocoaError(.fileReadCorruptFile) }
      return Case(
        about: "\(file): \(about)", schema: schema, tests: tests.map { ($0.array![0].bool!, $0.array![1]) })
    }
  }

  /// The grammar of a schema, without white space.
  static func outcome(of schema: JSONValue) -> Outcome {
    do { return .grammar(try JSONSchemaCompiler.grammar(for: schema, whiteSpace: .none)) } catch {
      return error.reason == "no value satisfies the schema" ? .grammar(nil) : .refused(error)
    }
  }

  /// The document with its keys in every order, up to a limit, and its strings escaped only where they must be.
  static func spellings(of value: JSONValue) -> [String] {
    switch value {
    case .integer, .number, .decimal:
      return Array(Set([DecimalNumber(value)!.text, String(decoding: value.encoded, as: UTF8.self)])).sorted()
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

  private static func permutations<Element>(_ elements: [Element]) -> [[Element]] {
    guard elements.count > 1 else { return [elements] }
    return elements.indices.flatMap { index in
      var rest = elements
      let first = rest.remove(at: index)
      return permutations(rest).map { [first] + $0 }
    }
  }
}
