import Formats
import Foundation
import Grammars
import Serve
import Tokenization

/// How long grammars of JSON Schemas take to compile, and masks to be found, along texts that are given.
struct MaskReport {
  private let name: String
  private let tokens: Int
  private let cases: [Case]

  /// The times of one schema and text: milliseconds to compile, microseconds for each mask.
  private struct Case {
    let name: String
    let tokens: Int
    var compile: [Double] = []
    /// Masks along the first text under a grammar.
    var first: [Double] = []
    /// Masks along the same text again, whose states are known.
    var later: [Double] = []
  }

  /// - Parameter path: a file of lines of JSON, each with `name`, `schema` and `tokens`
  init(bench: BenchCommand, cases path: String) throws {
    name = URL(filePath: bench.model).lastPathComponent
    let tokenizer = try Tokenizer(openTokenizer(at: URL(filePath: bench.model)), name: bench.model)
    let vocabulary = TokenVocabulary(tokenizer)
    tokens = vocabulary.count
    var cases: [Case] = []
    for (index, line) in try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").enumerated() {
      let object = try JSONValue.parse(Array(line.utf8), subject: path).object
      guard let name = object?["name"]?.string, let schema = object?["schema"],
        let tokens = object?["tokens"]?.array?.compactMap(\.integer)
      else { throw ModelError(path, reason: "line \(index + 1) is no object with name, schema and tokens") }
      var result = Case(name: name, tokens: tokens.count)
      for _ in 0..<bench.sizes.repetitions { try Self.measure(schema, tokens, vocabulary, &result) }
      cases.append(result)
    }
    guard !cases.isEmpty else { throw ModelError(path, reason: "has no line") }
    self.cases = cases
  }

  private static func measure(
    _ schema: JSONValue, _ tokens: [Int], _ vocabulary: TokenVocabulary, _ result: inout Case
  ) throws {
    let clock = ContinuousClock()
    let start = clock.now
    let grammar = try CompiledGrammar(JSONSchemaCompiler.grammar(for: schema), vocabulary: vocabulary)
    result.compile.append((clock.now - start) / .milliseconds(1))
    var mask = [UInt32](repeating: 0, count: vocabulary.maskWords)
    for isFirst in [true, false] {
      var matcher = try GrammarMatcher(grammar)
      for token in tokens {
        let start = clock.now
        try mask.withUnsafeMutableBufferPointer { (words) throws(GrammarError) in try matcher.computeMask(into: words) }
        let time = (clock.now - start) / .microseconds(1)
        if isFirst { result.first.append(time) } else { result.later.append(time) }
        guard try matcher.accept(token: token) else {
          throw ModelError(result.name, reason: "token \(token) may not come where the text has it")
        }
      }
    }
  }

  private static func percentile(_ values: [Double], _ share: Double) -> Double {
    values.sorted()[min(values.count - 1, Int(Double(values.count) * share))]
  }

  private static func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(max(1, values.count)) }

  /// All cases together, and each.
  private var rows: [Case] {
    var all = Case(name: "all", tokens: cases.reduce(0) { $0 + $1.tokens })
    for one in cases {
      all.compile += one.compile
      all.first += one.first
      all.later += one.later
    }
    return cases + [all]
  }

  func printTable() {
    func number(_ value: Double) -> String { String(format: "%10.1f", value) }
    print("\(name): \(tokens) tokens; compiling in ms, masks in µs")
    print(
      "schema".padding(toLength: 20, withPad: " ", startingAt: 0)
        + "    tokens   compile      mean    median      99 %      most  again, mean, 99 %")
    for row in rows {
      print(
        row.name.padding(toLength: 20, withPad: " ", startingAt: 0) + String(format: "%10d", row.tokens)
          + number(Self.percentile(row.compile, 0.5)) + number(Self.mean(row.first))
          + number(Self.percentile(row.first, 0.5)) + number(Self.percentile(row.first, 0.99))
          + number(row.first.max() ?? 0) + number(Self.mean(row.later)) + number(Self.percentile(row.later, 0.99)))
    }
  }

  func printJSON() {
    let values = rows.map { row -> JSONValue in
      [
        "name": .string(row.name), "tokens": .integer(row.tokens),
        "compile_ms": .number(Self.percentile(row.compile, 0.5)), "mask_us_mean": .number(Self.mean(row.first)),
        "mask_us_median": .number(Self.percentile(row.first, 0.5)),
        "mask_us_p99": .number(Self.percentile(row.first, 0.99)), "mask_us_most": .number(row.first.max() ?? 0),
        "again_us_mean": .number(Self.mean(row.later)), "again_us_p99": .number(Self.percentile(row.later, 0.99)),
      ]
    }
    let value: JSONValue = ["model": .string(name), "vocabulary": .integer(tokens), "schemas": .array(values)]
    print(String(decoding: value.encoded, as: UTF8.self))
  }
}
