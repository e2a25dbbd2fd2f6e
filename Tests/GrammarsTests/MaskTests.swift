import Formats
import Testing

@testable import Grammars

/// Masks of vocabularies with plain and other tokens, held to trying each token.
@Suite struct MaskTests {
  /// All bytes, characters of one to four bytes and parts of them, words, long tokens, and tokens that end or begin strings.
  private static let tokens: [[UInt8]] = {
    var tokens: [[UInt8]] = (0...255).map { [UInt8($0)] }
    tokens += [
      "a", "é", "日", "😀", "日本", "éé", "ab", "name", " the", "The", "12", "123", "-1", "0.5", "e", "Zz", "aZ", "dead",
      "Beef", "Hello",
    ].map {
      Array($0.utf8)
    }
    tokens += [
      "\":", "\",", "\"}", "{\"", "[\"", "\": \"", "x\"", "\\n", "\\u00", "\\\"", "a\\", "\n", "\n  ", "},", "]}", "  ",
    ]
    .map { Array($0.utf8) }
    tokens += [
      [0xE6, 0x97], [0xA5], [0xA5, 0xE6, 0x9C], [0x61, 0xC3], [0xF0, 0x9F], [0x98, 0x80], [0xC3, 0xA9, 0xC3],
      [0xFF, 0x61],
    ]
    for length in [2, 3, 5, 8, 15, 16, 17, 18, 30, 40] {
      tokens.append([UInt8](repeating: 0x61, count: length))
      tokens.append(Array(String(repeating: "é", count: length).utf8))
      tokens.append([UInt8](repeating: 0x20, count: length))
    }
    tokens.append([])
    return tokens
  }()

  private static let vocabulary = TokenVocabulary(tokens: tokens, endTokens: [tokens.count - 1])

  private static func check(_ compiled: CompiledGrammar, seed: UInt64, steps: Int, _ comment: String) throws {
    var random = SeededGenerator(state: seed)
    var matcher = try GrammarMatcher(compiled)
    var words = [UInt32](repeating: 0, count: vocabulary.maskWords)
    for _ in 0..<steps {
      var failure: GrammarError?
      words.withUnsafeMutableBufferPointer { words in
        do throws(GrammarError) { try matcher.computeMask(into: words) } catch { failure = error }
      }
      #expect(failure == nil)
      var allowed: [Int] = []
      let text = String(decoding: matcher.bytes, as: UTF8.self)
      for token in tokens.indices {
        var copy = matcher
        let isAccepted = try copy.accept(token: token)
        #expect(
          isAccepted == (words[token >> 5] >> UInt32(token & 31) & 1 == 1), "\(comment): \(text) + \(tokens[token])")
        if isAccepted, token < tokens.count - 1 { allowed.append(token) }
      }
      guard let token = allowed.randomElement(using: &random) else { return }
      let isAccepted = try matcher.accept(token: token)
      #expect(isAccepted)
    }
  }

  @Test(arguments: [
    "{\"type\":\"string\"}", "{\"type\":\"string\",\"maxLength\":5}",
    "{\"type\":\"string\",\"minLength\":3,\"maxLength\":17}",
    "{\"type\":\"string\",\"maxLength\":40}", "{\"type\":\"string\",\"pattern\":\"^[a-z]*$\"}",
    "{\"type\":\"string\",\"pattern\":\"^a*é{0,20}$\"}", "{\"type\":\"string\",\"pattern\":\"aaa\"}",
    "{\"type\":\"string\",\"pattern\":\"^.{2}(.{3})*$\"}",
    "{\"type\":\"string\",\"pattern\":\"^[A-Za-z]{0,4}é?[a-z]*$\"}",
    "{\"type\":\"string\",\"pattern\":\"^[^x]{3}$\"}", "{\"type\":\"string\",\"format\":\"email\"}",
    "{\"type\":\"string\",\"format\":\"uri\"}", "{\"type\":\"string\",\"format\":\"uuid\"}",
    "{\"type\":\"string\",\"enum\":[\"a\",\"aa\",\"éé\",\"name\",\"\"]}",
    "{\"type\":\"number\",\"multipleOf\":0.5}", "{\"type\":\"object\"}",
    "{\"type\":\"array\",\"items\":{\"type\":[\"number\",\"string\",\"null\"]}}",
    "{\"properties\":{\"name\":{\"type\":\"integer\"},\"aaaaa\":{\"type\":\"string\"}}}", "{}",
  ])
  func masksOfSchemas(schema: String) throws {
    let grammar = try JSONSchemaCompiler.grammar(for: try JSONValue.parse(Array(schema.utf8), subject: "schema"))
    let compiled = try CompiledGrammar(grammar, vocabulary: Self.vocabulary)
    for seed in 0..<3 { try Self.check(compiled, seed: UInt64(seed), steps: 8, schema) }
  }

  @Test(arguments: ["(.|\\n)*", "[^<]*", "a{0,30}", "\\p{L}{3,18}", "(aé)*", "[\\x00-\\x7f]*", ".*\"x", "[a日]*x?"])
  func masksOfExpressions(pattern: String) throws {
    let compiled = try CompiledGrammar(
      Grammar(try RegularExpressionParser.expression(pattern)), vocabulary: Self.vocabulary)
    for seed in 0..<3 { try Self.check(compiled, seed: UInt64(seed), steps: 8, pattern) }
  }

  /// Bytes that are no text, as in text that must not contain a tag.
  @Test func masksOfTextWithoutATag() throws {
    let any = ByteExpression.repetition(.byte(.all), minimum: 0, maximum: nil)
    let grammar = Grammar(.complement(.sequence([any, .literal("aaaaaé"), any])))
    let compiled = try CompiledGrammar(grammar, vocabulary: Self.vocabulary)
    for seed in 0..<6 { try Self.check(compiled, seed: UInt64(seed), steps: 8, "text without a tag") }
  }

  @Test(
    arguments: [
      ("", 0), ("a", 1), ("aé日😀", 4), ("a\"", nil), ("\\", nil), ("\n", nil), ("\u{7F}", 1), ("\u{10FFFF}", 1),
    ] as [(String, Int?)])
  func plainTextIsCounted(text: String, length: Int?) {
    #expect(PlainText.length(Array(text.utf8)) == length)
  }

  @Test(arguments: [[0x80], [0xC0, 0x80], [0xE0, 0x80, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xC3]])
  func otherBytesAreNoPlainText(bytes: [Int]) { #expect(PlainText.length(bytes.map { UInt8($0) }) == nil) }
}
