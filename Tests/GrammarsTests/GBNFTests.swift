import Grammars
import Testing

@Suite struct GBNFTests {
  @Test func aGrammarOfJSONAcceptsJSON() throws {
    // From llama.cpp's grammars/json.gbnf (MIT).
    let grammar = try GBNFParser.grammar(
      #"""
      root   ::= object
      value  ::= object | array | string | number | ("true" | "false" | "null") ws

      object ::=
        "{" ws (
                  string ":" ws value
          ("," ws string ":" ws value)*
        )? "}" ws

      array  ::=
        "[" ws (
                  value
          ("," ws value)*
        )? "]" ws

      string ::=
        "\"" (
          [^"\\\x7F\x00-\x1F] |
          "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
        )* "\"" ws

      number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws

      # Optional space: by convention, applied in this grammar after literal chars when allowed
      ws ::= | " " | "\n" [ \t]{0,20}
      """#)
    for text in [#"{}"#, #"{"a": [1, -2.5e3, "\u00e9\n", true], "b": {"c": null}}"#, "{\n  \"é\": 1\n}"] {
      #expect(SimpleRecognizer(text).matches(grammar), "\(text)")
    }
    for text in ["", "[]", #"{"a": 01}"#, #"{"a" 1}"#, "{\"a\": \"\n\"}", #"{"a": 1,}"#] {
      #expect(!SimpleRecognizer(text).matches(grammar), "\(text)")
    }
  }

  @Test(arguments: [
    ("root ::= \"a\" root | \"b\"", ["b", "aab"], ["", "a", "ba"]),
    ("root ::= root \"a\" | \"b\"", ["b", "baa"], ["a", "ab"]),
    ("root ::= x{2,3}\nx ::= \"(\" x? \")\"", ["()()", "(())()()"], ["()", "()()()()", "(()"]),
    ("root ::= x{2,}\nx ::= \"(\" x* \")\"", ["()()", "(()())()()"], ["()", ""]),
    ("root ::= [^a-c] . [\\]-] \"\\x41\\u00e9\\U0001F600\"", ["dz]Aé😀", "é\n-Aé😀"], ["az]Aé😀", "dz]Aé"]),
    ("root ::= (\"a\"\n | \"b\" # no\n)+ # yes\n", ["ab"], ["", "c"]),
    ("root ::= a-b_c?\na-b_c ::= \"x\"", ["", "x"], ["xx"]),
    ("root ::= x y | y\nx ::= x\ny ::= \"y\"", ["y"], ["", "yy"]),
  ])
  func notation(_ text: String, _ accepted: [String], _ rejected: [String]) throws {
    let grammar = try GBNFParser.grammar(text)
    for text in accepted { #expect(SimpleRecognizer(text).matches(grammar), "\(text)") }
    for text in rejected { #expect(!SimpleRecognizer(text).matches(grammar), "\(text)") }
  }

  @Test(arguments: [
    ("root ::= x", "column 10: there is no rule \"x\""), ("a ::= \"x\"", "column 1: there is no rule \"root\""),
    ("root ::= \"a", "column 10: a literal that does not end"),
    ("root ::= [a", "column 10: a character class that does not end"),
    ("root ::= (\"a\"\n", "column 10: a group that does not end"),
    ("root ::= \"a\"\nroot ::= \"b\"", "line 2, column 1: a second rule \"root\""),
    ("root ::= \"a\" )", "column 14: a closing parenthesis without an opening one"),
    ("root ::= $", "column 10: \"$\" is not part of a rule"),
    ("root = \"a\"", "column 1: a rule \"name ::= …\" is expected"),
    ("root ::= root", "column 1: the grammar has no text at all"),
    ("root ::= \"a\"{99999}", "column 14: a quantifier of more than 10000 repetitions"),
    ("root ::= [b-a]", "column 11: a range whose ends are in the wrong order"),
    ("root ::= \"a\"{x}", "column 13: a number of repetitions is expected in braces"),
    ("root ::= \"\\q\"", "column 11: the unknown escape \\q"),
  ])
  func mistakesAreNamedWithTheirPosition(_ text: String, _ message: String) {
    let error = #expect(throws: NotationError.self) { try GBNFParser.grammar(text) }
    #expect(error?.description == message)
  }

  @Test(arguments: ["start: \"a\"", "?start: x", "%import common.WS", "// comment\nstart: x"])
  func larksNotationIsKnown(_ text: String) {
    #expect(LarkParser.isLark(text))
    let error = #expect(throws: NotationError.self) { try GBNFParser.grammar(text) }
    #expect(error?.reason == "a rule \"name ::= …\" is expected")
  }

  @Test func hostileGrammarsEndInAnError() throws {
    let doubling = (0..<40).map { "a\($0) ::= a\($0 + 1) a\($0 + 1)" }.joined(separator: "\n")
    let doubled = try GBNFParser.grammar("root ::= a0\n\(doubling)\na40 ::= \"x\"")
    #expect(doubled.names.count < 100)
    for text in [
      "root ::= " + String(repeating: "(", count: 100_000), "root ::= \"a\"" + String(repeating: "*", count: 100_000),
      "root ::= " + String(repeating: "x{9999} ", count: 6) + "\nx ::= \"(\" x? \")\"",
      String(repeating: " ", count: 1_000_001),
    ] {
      #expect(throws: NotationError.self) { try GBNFParser.grammar(text) }
    }
    let chain = (0..<5_000).map { "a\($0) ::= \"x\" a\($0 + 1)" }.joined(separator: "\n")
    #expect(try GBNFParser.grammar("root ::= a0\n\(chain)\na5000 ::= \"x\"").names.count > 1)
  }
}
