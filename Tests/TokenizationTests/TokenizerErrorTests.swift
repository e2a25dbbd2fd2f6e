import Formats
import Foundation
import TestSupport
import Testing

@testable import Tokenization

@Suite struct TokenizerErrorTests {
  private func definition(_ json: String) throws -> TokenizerDefinition {
    var json = json
    let tree = try json.withUTF8 { try JSONTree($0) }
    return try TokenizerJSONReader(tree, subject: "m").definition()
  }

  private func document(
    model: String = #""type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]"#, rest: String = ""
  ) -> String {
    #"{"model":{\#(model)},"decoder":{"type":"ByteLevel"},"pre_tokenizer":{"type":"ByteLevel"}\#(rest)}"#
  }

  /// Steps that would make more text of a text than there is memory for.
  @Test func refusesWhatMultipliesText() {
    func replace(_ old: String, _ new: String) -> String {
      #"{"type":"Replace","pattern":{"String":"\#(old)"},"content":"\#(new)"}"#
    }
    let twice = replace("a", "aa")
    let longTokens = (1...2049).map { #"{"id":\#($0),"content":"\#($0)\#(String(repeating: "x", count: 4092))"}"# }
    let charsmap = #"{"type":"Precompiled","precompiled_charsmap":"BAAAAAAAAAA="}"#
    let token = #"{"SpecialToken":{"id":"a"}}"#
    func template(_ items: Int, ids: Int) -> String {
      #"{"type":"TemplateProcessing","single":[\#(Array(repeating: token, count: items).joined(separator: ",")),"#
        + #"{"Sequence":{"id":"A"}}],"#
        + #""special_tokens":{"a":{"ids":[\#(Array(repeating: "0", count: ids).joined(separator: ","))]}}}"#
    }
    let digits = sequence("x", "pretokenizers", Array(repeating: #"{"type":"Digits"}"#, count: 32)).dropFirst(4)
    let normalized = (1...33).map {
      #"{"id":\#($0),"content":"\#($0)\#(String(repeating: "a", count: 4090))","normalized":true}"#
    }
    let cases: [(String, String)] = [
      (sequence("normalizer", "normalizers", [charsmap, charsmap]), "normalizer: its steps can make a text"),
      (
        sequence("decoder", "decoders", [replace("a", "bbbbb")]), "decoder: its steps can make a text more than 4 times"
      ),
      (
        sequence("pre_tokenizer", "pretokenizers", Array(repeating: String(digits), count: 32)),
        "pre_tokenizer: 33 steps, more than 32"
      ),
      (#""post_processor":\#(template(9, ids: 2))"#, "post_processor: 18 tokens before a text, more than 16"),
      (#""post_processor":\#(template(17, ids: 0))"#, "post_processor: 17 tokens before a text, more than 16"),
      (
        sequence("post_processor", "processors", Array(repeating: template(1, ids: 1), count: 17)),
        "post_processor: 17 tokens before a text, more than 16"
      ),
      (
        sequence("post_processor", "processors", Array(repeating: template(1, ids: 0), count: 33)),
        "post_processor: 33 steps, more than 32"
      ),
      (
        #""added_tokens":[\#(normalized.joined(separator: ","))],"#
          + #""normalizer":\#(replace("a", String(repeating: "b", count: 64)))"#,
        "added_tokens: have more than 8388608 bytes together, once normalized"
      ),
      (
        #""normalizer":\#(replace("a", String(repeating: "b", count: 65)))"#,
        "normalizer: its steps can make a text more"
      ),
      (
        sequence("normalizer", "normalizers", Array(repeating: twice, count: 7)),
        "normalizer: its steps can make a text"
      ),
      (
        sequence("normalizer", "normalizers", Array(repeating: twice, count: 32)),
        "normalizer: its steps can make a text"
      ),
      (sequence("normalizer", "normalizers", Array(repeating: twice, count: 33)), "normalizer: 33 steps, more than 32"),
      (
        sequence("normalizer", "normalizers", [#"{"type":"NFKC"}"#, replace("a", "bbbbbb")]),
        "normalizer: its steps can make a text"
      ),
      (
        #""normalizer":{"type":"Prepend","prepend":"\#(String(repeating: "b", count: 65))"}"#,
        "normalizer: puts up to 65 bytes before a text, more than 64"
      ),
      (sequence("decoder", "decoders", Array(repeating: twice, count: 20)), "decoder: its steps can make a text"),
      (
        sequence("pre_tokenizer", "pretokenizers", Array(repeating: #"{"type":"Digits"}"#, count: 33)),
        "pre_tokenizer: 33 steps, more than 32"
      ),
      (
        #""post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"a"}},{"Sequence":{"id":"A"}}],"#
          + #""special_tokens":{"a":{"ids":[\#(Array(repeating: "0", count: 17).joined(separator: ","))]}}}"#,
        "post_processor: 17 tokens before a text, more than 16"
      ),
      (
        #""added_tokens":[\#(longTokens.joined(separator: ","))]"#,
        "added_tokens: have more than 8388608 bytes together"
      ),
    ]
    let model = #""model":{"vocab":{"a":0},"merges":[]}"#
    for (rest, reason) in cases {
      let decoder = rest.hasPrefix("\"decoder\"") ? "" : #""decoder":{"type":"Fuse"},"#
      expectError("m: tokenizer.json: \(reason)", "{\(model),\(decoder)\(rest)}")
    }
    #expect(throws: Never.self) {
      try definition("{\(model),\"decoder\":{\"type\":\"Fuse\"},\"post_processor\":\(template(16, ids: 1))}")
    }
    let published = sequence("normalizer", "normalizers", [#"{"type":"NFKC"}"#, replace(" ", "▁")])
    #expect(throws: Never.self) { try definition("{\(model),\"decoder\":{\"type\":\"Fuse\"},\(published)}") }
  }

  private func sequence(_ field: String, _ children: String, _ steps: [String]) -> String {
    "\"\(field)\":{\"type\":\"Sequence\",\"\(children)\":[\(steps.joined(separator: ","))]}"
  }

  @Test func mergesInBothForms() throws {
    for merges in [#"["a b"]"#, #"[["a","b"]]"#] {
      let tokenizer = Tokenizer(
        try definition(document(model: #""type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":\#(merges)"#)))
      #expect(tokenizer.encode("aba", parsingSpecialTokens: true) == [2, 0])
    }
  }

  @Test func tokensThatAreCanonicallyEquivalentStayApart() throws {
    let json = #"{"model":{"vocab":{"\u00e9":0,"e\u0301":1},"merges":[]},"decoder":{"type":"Fuse"}}"#
    let tokenizer = Tokenizer(try definition(json))
    #expect(tokenizer.encode("\u{E9}", parsingSpecialTokens: true) == [0])
    #expect(tokenizer.id(of: "e\u{301}") == 1)
  }

  @Test(arguments: [
    (#""type":"WordPiece","vocab":{},"merges":[]"#, "model.type: 'WordPiece' is not supported"),
    (#""merges":[]"#, "model.vocab: missing"),
    (#""vocab":{}"#, "model.merges: missing"),
    (#""vocab":{"a":-1},"merges":[]"#, "model.vocab: 'a' has no token id"),
    (#""vocab":{"a":1.5},"merges":[]"#, "model.vocab: 'a' has no token id"),
    (#""vocab":{"a":2000000000},"merges":[]"#, "model.vocab: 'a' has id 2000000000, beyond 4194304"),
    (#""vocab":{"a":0,"b":0},"merges":[]"#, "model.vocab: 'a' and 'b' have the same id 0"),
    (#""vocab":{"a":0},"merges":["a q"]"#, "model.merges[0]: 'q' is not in the vocabulary"),
    (#""vocab":{"a":0},"merges":["aa"]"#, #"model.merges[0]: neither "a b" nor ["a", "b"]"#),
    (#""vocab":{"a":0},"merges":[],"dropout":0.1"#, "model.dropout: 0.1 is not supported"),
    (#""vocab":{"a":0},"merges":[],"end_of_word_suffix":"</w>""#, "model.end_of_word_suffix: '</w>' is not supported"),
    (#""vocab":{"a":0},"merges":[],"unk_token":"?""#, "model.unk_token: '?' is not in the vocabulary"),
  ]) func refusesModels(model: String, reason: String) {
    expectError("m: tokenizer.json: \(reason)", document(model: model))
  }

  /// Each byte of a text can be a match, beside each can be an empty one, or one takes several bytes.
  @Test(arguments: [
    ("x", 64, true), ("x", 65, false), ("x*", 64, false), ("xx|xyx", 128, true), ("(?=x)xx", 129, false),
  ])
  func growthCountsTheShortestMatch(pattern: String, count: Int, isRead: Bool) {
    let content = String(repeating: "y", count: count)
    let normalizer = #"{"type":"Replace","pattern":{"Regex":"\#(pattern)"},"content":"\#(content)"}"#
    let found = try? definition(document(rest: #","normalizer":\#(normalizer)"#))
    #expect((found != nil) == isRead)
  }

  @Test(arguments: [
    (#","normalizer":{"type":"BertNormalizer"}"#, "normalizer: the normalizer 'BertNormalizer' is not supported"),
    (#","normalizer":{"type":"Replace","pattern":{"Regex":"\\K"},"content":""}"#, "normalizer.pattern: the escape"),
    (#","normalizer":{"type":"Replace","pattern":{},"content":""}"#, "normalizer.pattern: only a String"),
    (#","normalizer":{"type":"Precompiled","precompiled_charsmap":"!"}"#, "normalizer.precompiled_charsmap: no Base64"),
    (#","normalizer":{"type":"Precompiled","precompiled_charsmap":"AAAA"}"#, "charsmap: 3 bytes are no charsmap"),
    (
      #","normalizer":{"type":"Replace","pattern":{"Regex":"x*"},"content":"\#(String(repeating: "y", count: 65))"}"#,
      "normalizer: its steps can make a text more than 64 times as long"
    ),
    (
      #","pre_tokenizer":{"type":"UnicodeScripts"}"#,
      "pre_tokenizer: the pre-tokenizer 'UnicodeScripts' is not supported"
    ),
    (
      #","pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"ByteLevel"},{"type":"Digits"}]}"#,
      "pre_tokenizer.pretokenizers[1]: the pre-tokenizer 'Digits' behind ByteLevel is not supported"
    ),
    (
      #","pre_tokenizer":{"type":"Split","pattern":{"Regex":"\\b"},"behavior":"Isolated"}"#,
      #"pre_tokenizer.pattern: the escape '\b' is not supported"#
    ),
    (
      #","pre_tokenizer":{"type":"Split","pattern":{"Regex":"x"},"behavior":"Sideways"}"#,
      "pre_tokenizer.behavior: 'Sideways' is not supported"
    ),
    (#","post_processor":{"type":"BertProcessing"}"#, "the post-processor 'BertProcessing' is not supported"),
    (
      #","post_processor":{"type":"TemplateProcessing","single":[{"Sequence":{"id":"A"}},{"SpecialToken":{"id":"a"}}]}"#,
      "post_processor.single: a token behind the text ('a') is not supported"
    ),
    (#","decoder":{"type":"WordPiece"}"#, "decoder: 'WordPiece' does not fit the pre-tokenizer"),
    (#","added_tokens":[{"id":1,"content":"a"}]"#, "added_tokens: 'a' has id 1, in the vocabulary 0"),
    (#","added_tokens":[{"id":0,"content":"x"}]"#, "added_tokens: 'a' and 'x' have the same id 0"),
  ]) func refusesPipelines(rest: String, reason: String) { expectError(reason, document(rest: rest)) }

  private func expectError(_ part: String, _ json: String) {
    let error = #expect(throws: ModelError.self) { try definition(json) }
    #expect(error?.description.contains(part) == true, "\(String(describing: error))")
  }

  @Test func missingFile() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    #expect(throws: ModelError.self) { try Tokenizer(.huggingFace(folder), name: "none") }
  }

  @Test(arguments: [
    "", "{", "[1,]", "{\"a\":1,}", "\"\\ud800\"", "\"\\x\"", "\"a", "tru", "1 2", "-", "[\"\u{1}\"]", "\"\\u12\"",
    "nul\u{0}",
    String(repeating: "[", count: 100_000),
  ]) func refusesWhatIsNoJSON(text: String) {
    var text = text
    #expect(throws: JSONSyntaxError.self) { try text.withUTF8 { try JSONTree($0) } }
  }

  @Test func readsJSON() throws {
    var text = #" {"a":[1,-2.5e1,true,null,"\u00e9\ud83d\ude00\n\/"],"a":"last"} "#
    let tree = try text.withUTF8 { try JSONTree($0) }
    #expect(tree["a"]?.string == "last")
    let first = try #require(tree.members?.first?.value.array)
    #expect(first[0].tokenID == 1 && first[1].tokenID == nil && first[2].bool == true)
    #expect(first[4].string == "é😀\n/")
  }

  /// Bytes of a tokenizer.json changed at random: refused or taken, never a crash.
  @Test(arguments: ["llama3", "llama2"]) func survivesDamage(folder: String) throws {
    let original = try Array(Data(contentsOf: TokenizerFixture.url("tokenizers/\(folder)/tokenizer.json")))
    var random = TinyRandom(seed: 9)
    var refused = 0
    for _ in 0..<400 {
      var bytes = original
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        let index = Int.random(in: 0..<bytes.count, using: &random)
        bytes[index] =
          [0x22, 0x2C, 0x5B, 0x7D, 0x30, 0x39, 0x5C, UInt8.random(in: 0...255, using: &random)]
          .randomElement(using: &random) ?? 0
      }
      do {
        let tree = try bytes.withUnsafeBufferPointer { try JSONTree($0) }
        let tokenizer = Tokenizer(try TokenizerJSONReader(tree, subject: "m").definition())
        let ids = tokenizer.encode("Hello <|end|> world 123 é\u{0}", parsingSpecialTokens: true)
        #expect(ids.allSatisfy { tokenizer.tokenBytes($0) != nil })
      } catch is JSONSyntaxError {
        refused += 1
      } catch is ModelError {
        refused += 1
      }
    }
    #expect(refused > 100)
  }
}

@Suite struct SplitRegexTests {
  private func matches(_ pattern: String, _ text: String) throws -> [String] {
    let regex = try SplitRegex(pattern)
    let workspace = SplitRegex.Workspace()
    var text = text
    return text.withUTF8 { text in
      var found: [String] = []
      var position = 0
      var budget = 1 << 30
      while position < text.count,
        let match = regex.firstMatch(in: text, from: position, using: workspace, budget: &budget)
      {
        found.append(String(decoding: text[match], as: UTF8.self))
        position = max(match.upperBound, position + 1)
      }
      return found
    }
  }

  @Test func meansWhatOnigurumaMeans() throws {
    #expect(try matches(#"\s+"#, "a\u{85}\u{2003}b\u{180E}c\u{3000}") == ["\u{85}\u{2003}", "\u{3000}"])
    #expect(try matches(#"[^\s\d]+"#, "ab ٣٤c½") == ["ab", "c½"])
    #expect(try matches(#"(?i:'s|'re)"#, "'S 'ſ 'rE") == ["'S", "'ſ", "'rE"])
    #expect(try matches(#"\v|\x{1F600}|\u00b5"#, "a\u{0B}\n😀µ") == ["\u{0B}", "😀", "µ"])
    #expect(try matches(#"\p{^L}"#, "a1b") == ["1"])
    #expect(try matches(#"\p{Han}+"#, "中文。かな") == ["中文"])
    #expect(try matches(#"[\p{^Han}]+|\P{Han}"#, "中文。かな") == ["。かな"])
    #expect(try matches(#".+$"#, "ab\r\ncd") == ["ab\r", "cd"])
    #expect(try matches(RegexTranslation.literal("a.[b]"), "axb a.[b]") == ["a.[b]"])
  }

  @Test(arguments: [
    #"\K"#, #"\b"#, #"[\S]"#, #"\w"#, #"[a&&b]"#, "[a[b]]", "[]a]", "(?m:a)", "(?<n>a)", #"\1"#, "a{1,2}+", "a{,2}",
    "a{",
    "[a", "(", "a)", #"\"#, #"\p{Elvish}"#, #"\pL"#, #"\xff"#, "*", "a(?i)b", #"\x{D800}"#, #"\C"#, #"\Qa\E"#,
  ]) func refusesWhatIsNotKnownToMeanTheSame(pattern: String) {
    #expect(throws: SplitRegexError.self) { try SplitRegex(pattern) }
  }

  @Test func limitsEndHopelessMatching() throws {
    let text = String(repeating: "a", count: 60) + "!"
    // Exponential without limits; with them the text stays whole.
    #expect(try matches("^(?:a|a|aa)+$", text).isEmpty)
  }
}
