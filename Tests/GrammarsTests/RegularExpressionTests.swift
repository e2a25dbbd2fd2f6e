import Formats
import Grammars
import Testing

@Suite struct RegularExpressionTests {
  private func accepts(_ pattern: String, _ text: String) throws -> Bool {
    SimpleRecognizer(text).matches(try RegularExpressionParser.expression(pattern))
  }

  @Test func randomExpressionsMatchWhatTheStandardLibraryMatches() throws {
    var random = SeededGenerator(state: 7)
    let texts = allTexts(of: ["a", "b", "é"], upTo: 3)
    var tried = 0
    for _ in 0..<150 {
      let pattern = randomPattern(&random, depth: 3)
      let oracle = try Regex(pattern).matchingSemantics(.unicodeScalar)
      // Anchors in a part that is repeated are refused.
      guard let expression = try? RegularExpressionParser.expression(pattern) else { continue }
      tried += 1
      let searched = try JSONSchemaCompiler.grammar(for: .object(.init(keepingFirst: [("pattern", .string(pattern))])))
      for text in texts {
        #expect(
          SimpleRecognizer(text).matches(expression) == (text.wholeMatch(of: oracle) != nil), "\(pattern) on \(text)")
        #expect(
          SimpleRecognizer("\"\(text)\"").matches(searched) == (text.firstMatch(of: oracle) != nil),
          "\(pattern) in \(text)")
      }
    }
    #expect(tried > 100)
  }

  /// Lookaheads at the beginning, in expressions that are searched and that match whole texts.
  @Test func randomLookaheadsMatchWhatTheStandardLibraryMatches() throws {
    var random = SeededGenerator(state: 11)
    let texts = allTexts(of: ["a", "b", "é"], upTo: 3)
    var tried = 0
    for _ in 0..<100 {
      var pattern = "^"
      for _ in 0..<Int.random(in: 1...2, using: &random) {
        let end = Bool.random(using: &random) ? "$" : ""
        pattern += (Bool.random(using: &random) ? "(?=" : "(?!") + randomPattern(&random, depth: 2) + end + ")"
      }
      pattern += "(?:\(randomPattern(&random, depth: 2)))"
      if Bool.random(using: &random) {
        let mark = Bool.random(using: &random) ? "(?=" : "(?!"
        pattern += "(?:a|\(mark)\(randomPattern(&random, depth: 1)))\(randomPattern(&random, depth: 1))$)"
      }
      if Int.random(in: 0..<4, using: &random) == 0 { pattern += "|" + randomPattern(&random, depth: 1) }
      let oracle = try Regex(pattern).matchingSemantics(.unicodeScalar)
      guard let expression = try? RegularExpressionParser.expression(pattern) else { continue }
      tried += 1
      let schema = JSONValue.object(.init(keepingFirst: [("pattern", .string(pattern)), ("type", "string")]))
      var searched: Grammar?
      do { searched = try JSONSchemaCompiler.grammar(for: schema) } catch {
        #expect(error.reason == "no value satisfies the schema", "\(pattern)")
      }
      for text in texts {
        #expect(
          SimpleRecognizer(text).matches(expression) == (text.wholeMatch(of: oracle) != nil), "\(pattern) on \(text)")
        let isFound = searched.map { SimpleRecognizer("\"\(text)\"").matches($0) } ?? false
        #expect(isFound == (text.firstMatch(of: oracle) != nil), "\(pattern) in \(text)")
      }
    }
    #expect(tried > 30)
  }

  private func randomPattern(_ random: inout SeededGenerator, depth: Int) -> String {
    let atoms = ["a", "b", "é", ".", "[ab]", "[^a]", "[\\x61-z]", "[a-bé]", "\\x61", "\\u00e9", "\\u{62}"]
    if depth == 0 { return atoms.randomElement(using: &random)! }
    func inner() -> String { randomPattern(&random, depth: depth - 1) }
    switch Int.random(in: 0..<8, using: &random) {
    case 0: return inner() + inner()
    case 1: return "(?:\(inner())|\(inner()))"
    case 2: return "(\(inner()))*"
    case 3: return "(?:\(inner())){1,2}?"
    case 4: return "(?<n>\(inner()))?".replacing("<n>", with: "<n\(Int.random(in: 0..<1_000_000, using: &random))>")
    case 5: return "(?:^\(inner())|\(inner())$)"
    case 6: return inner() + "|" + inner()
    default: return inner()
    }
  }

  @Test(arguments: [
    ("^a$", "a", true), ("a|b$", "b", true), ("[\\w-.]+", "a-.", true), ("[^]", "\n", true), (".", "\n", false),
    ("\\d{2,}", "12", true), ("\\d{2,}", "1", false), ("\\D", "٣", true), ("\\p{Lu}\\P{Lu}", "Éé", true),
    ("\\p{Letter}+", "Жx", true), ("\\p{Nd}", "٣", true), ("\\p{Nd}", "x", false), ("\\cJ", "\n", true),
    ("\\s", "\u{FEFF}", true), ("\\uD83D\\uDE00", "😀", true), ("[😀-😃]", "😁", true), ("\\u{1F600}", "😀", true),
    ("a{,2}", "aa", true), ("{", "{", true), ("x{a}", "x{a}", true), ("\\.\\-\\/", ".-/", true),
    ("(a|^)b", "b", true), ("a$^b", "ab", false), ("(?:$)a*", "", true), ("[\\b]", "\u{08}", true),
    // Lookaheads at the beginning, and before what reaches the end.
    ("(?=.*1)a.*", "ab1", true), ("(?=.*1)a.*", "ab", false), ("(?!a$|b)[ab]+", "ab", true),
    ("(?!a$|b)[ab]+", "a", false), ("^(?!ab)(?=..$)..", "aa", true), ("x|(?!y).", "y", false), ("(?!)a", "a", false),
    ("(?=)a", "a", true), ("a(?!b)(?=..$).*$", "acc", true), ("a(?!b)(?=..$).*$", "abc", false),
    ("a(?!b).*$", "a", true), ("(a|b(?=c$).*$)", "bc", true), ("b(?=c$).*$", "bcc", false),
  ])
  func notation(_ pattern: String, _ text: String, _ isAccepted: Bool) throws {
    #expect(try accepts(pattern, text) == isAccepted)
  }

  private static let onlyThere = "a lookahead is supported only behind ^ at the beginning, or where $ ends what follows"

  @Test(arguments: [
    ("a(?=a)", "column 2: \(Self.onlyThere)"),
    ("((?!a)b)*", "column 2: \(Self.onlyThere)"),
    ("(?=a)*b", "column 1: a lookahead that is repeated"), ("a(?<!b)", "column 2: lookbehind is not regular here"),
    ("\\bx", "column 1: the word boundary \\b is not supported"),
    ("(a)\\1", "column 4: the backreference \\1 is not regular"),
    ("*a", "column 1: nothing before \"*\" that it could repeat"), ("(a", "column 1: a group that does not end"),
    ("a)", "column 2: a closing parenthesis without an opening one"),
    ("[a", "column 1: a character class that does not end"),
    ("(^a)*", "column 1: an anchor in a part that is repeated"), ("a**", "column 3: \"*\" after a quantifier"),
    ("\\p{Foo}", "column 1: the Unicode property \"Foo\" is not supported"),
    ("\\q", "column 1: the unknown escape \\q"),
    ("[b-a]", "column 2: a range whose ends are in the wrong order"),
    ("a{3,2}", "column 3: a quantifier whose maximum is below its minimum"),
    ("a\n(?i)b", "line 2, column 1: a group of unknown kind"), ("a\\", "column 2: a backslash at the end"),
    ("a{9999999}", "column 3: a quantifier of more than 1000000 repetitions"),
    ("\\ud800", "column 1: an escape that is no Unicode character"),
  ])
  func whatIsNotRegularIsRefused(_ pattern: String, _ message: String) {
    let error = #expect(throws: NotationError.self) { try RegularExpressionParser.expression(pattern) }
    #expect(error?.description == message)
  }

  @Test func hostileExpressionsEndInAnError() {
    for pattern in [
      String(repeating: "(", count: 15_000), String(repeating: "a", count: 30_000),
      String(repeating: "(?=$)", count: 3_000) + "$", String(repeating: "a?(?=a$)", count: 2_000) + "$",
      String(repeating: "(?!a", count: 3_000),
    ] {
      #expect(throws: NotationError.self) { try RegularExpressionParser.expression(pattern) }
    }
  }

  @Test func everyCharacterIsOneOfAWholeSetAndNoOtherBytesAre() throws {
    let any = try RegularExpressionParser.expression("[^]")
    for value in Swift.stride(from: UInt32(0), through: 0x10FFFF, by: 911) {
      guard let scalar = Unicode.Scalar(value) else { continue }
      #expect(SimpleRecognizer(String(scalar)).matches(any))
    }
    for bytes: [UInt8] in [
      [0x80], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xE2, 0x82], [0xFF],
    ] {
      #expect(!SimpleRecognizer(bytes: bytes).matches(any))
    }
  }
}
