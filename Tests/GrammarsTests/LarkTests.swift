import Formats
import Foundation
import Testing

@testable import Grammars

/// Lark's notation, held to what llguidance answered for the same grammars and texts (`scripts/fixtures/lark.py`).
@Suite struct LarkTests {
  @Test func textsAreThoseOfLlguidance() throws {
    let file = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Fixtures/lark.jsonl")
    var (texts, refused) = (0, 0)
    for line in try String(contentsOf: file, encoding: .utf8).split(separator: "\n") {
      let object = try #require(try JSONValue.parse(line.utf8, subject: "fixture").object)
      let notation = object["grammar"]!.string!
      #expect(LarkParser.isLark(notation))
      guard let cases = object["texts"]?.array else {
        #expect(throws: NotationError.self, "\(notation)") { try LarkParser.grammar(notation) }
        refused += 1
        continue
      }
      let grammar: Grammar
      do { grammar = try LarkParser.grammar(notation) } catch {
        Issue.record("\(notation): \(error)")
        continue
      }
      for entry in cases {
        let (isMember, text) = (entry.array![0].bool!, entry.array![1].string!)
        #expect(SimpleRecognizer(text).matches(grammar) == isMember, "\(notation): \(text.debugDescription)")
        texts += 1
      }
    }
    #expect(texts > 150 && refused > 15)
  }

  /// Lark ignores text after the last terminal, too.
  @Test func ignoredTextMayFollow() throws {
    let grammar = try LarkParser.grammar("start: \"a\"+\n%ignore / /\n%ignore \"-\"")
    for text in ["a", "a ", "a - a--"] { #expect(SimpleRecognizer(text).matches(grammar), "\(text)") }
    for text in ["", " a", "a +"] { #expect(!SimpleRecognizer(text).matches(grammar), "\(text)") }
  }

  @Test func aGroupMayHaveSeveralLines() throws {
    let grammar = try LarkParser.grammar("start: (\"a\" // first\n  \"b\"\n | \"c\")\n")
    for text in ["ab", "c"] { #expect(SimpleRecognizer(text).matches(grammar), "\(text)") }
  }

  @Test(arguments: [
    ("a: \"x\"", "column 1: there is no rule \"start\""),
    ("start: x", "column 8: there is no rule \"x\""),
    ("start = \"a\"", "column 7: a colon is expected after the name \"start\""),
    ("start: X\nX: Y \"a\"", "line 2, column 4: there is no terminal \"Y\", and a terminal has no rules"),
    ("start: X\nX: Y\nY: \"a\" X", "line 3, column 8: the terminal \"X\" is part of itself"),
    ("start: \"a", "column 8: a string that does not end"),
    ("start: /a", "column 8: a regular expression that does not end"),
    ("start: (\"a\"\n", "column 8: a group that does not end"),
    ("start: \"a\" )", "column 12: a closing bracket without an opening one"),
    ("start: \"a\"\nstart: \"b\"", "line 2, column 1: a second rule \"start\""),
    ("start: X\nX: \"a\"\nX: \"b\"", "line 3, column 1: a second terminal \"X\""),
    ("start: X\nX.2: \"a\"", "line 2, column 2: priorities are not supported: every way to divide a text counts"),
    ("start: x{\"a\"}", "column 9: templates are not supported; write a rule for each use"),
    ("start: x\nx[capture]: \"a\"", "line 2, column 2: attributes of rules are not supported"),
    ("start: <|end|>", "column 8: tokens of the model such as <|…|> are not supported; write their text"),
    ("start: ~\"a\"", "column 8: intersections and complements are not supported; write a regular expression"),
    ("start: %json {}", "column 8: a grammar inside of a rule is not supported"),
    ("%declare A\nstart: A", "column 1: \"%declare\" is not supported"),
    ("%import other.X\nstart: X", "column 1: only terminals of \"common\" can be imported"),
    ("%import common.PYTHON\nstart: PYTHON", "column 1: the terminal \"common.PYTHON\" is not supported"),
    ("start: /a(?=b)/", "column 8: in the regular expression, column 2: lookahead is not regular here"),
    (
      "start: /\\p{Lu}/i",
      "column 8: in the regular expression, column 1: a Unicode property where case is ignored is not supported"
    ),
    ("start: /a/x", "column 8: the flag \"x\" of a regular expression is not supported"),
    ("start: \"a\"~99999", "column 12: a quantifier of more than 10000 repetitions"),
    ("start: \"a\"~3..2", "column 11: a quantifier whose maximum is below its minimum"),
    ("start: \"ab\"..\"c\"", "column 8: a range whose ends are not one character each"),
    ("start: \"c\"..\"a\"", "column 8: a range whose ends are in the wrong order"),
    ("start: start", "column 1: the grammar has no text at all"),
  ])
  func mistakesAreNamedWithTheirPosition(_ text: String, _ message: String) {
    let error = #expect(throws: NotationError.self) { try LarkParser.grammar(text) }
    #expect(error?.description == message)
  }

  @Test func hostileGrammarsEndInAnError() throws {
    func list(_ count: Int, _ line: (Int) -> String) -> String { (0..<count).map(line).joined(separator: "\n") }
    for text in [
      "start: " + String(repeating: "(", count: 100_000), "start: " + String(repeating: "[", count: 100_000),
      "start: A0\n\(list(60) { "A\($0): A\($0 + 1) A\($0 + 1)" })\nA60: \"x\"",
      "start: A0\n\(list(1_000) { "A\($0): A\($0 + 1)" })\nA1000: \"x\"",
      "start: \"\(String(repeating: "k", count: 60_000))\"i", "start: /\(String(repeating: "[a-z]", count: 3_000))/i",
      String(repeating: " ", count: 1_000_001),
    ] {
      #expect(throws: NotationError.self, "\(text.prefix(40))") {
        try LarkParser.grammar(text, budget: CompilationBudget(limit: 100_000))
      }
    }
    // Rules are not copied where they are named.
    let doubling = list(40) { "a\($0): a\($0 + 1) a\($0 + 1)" }
    #expect(try LarkParser.grammar("start: a0\n\(doubling)\na40: \"x\"").names.count < 100)
    #expect(try LarkParser.grammar("start: a0\n\(doubling)\na40: \"x\"\n%ignore / /").names.count < 100)
  }
}
