import Formats
import Foundation
import TestSupport
import Testing

@testable import Tokenization

/// Tiny tokenizers of the shapes of Llama 3, Qwen 2 and Llama 2, against what `tokenizers` made of the same texts
/// (scripts/fixtures/tokenizers_fixtures.py).
@Suite struct TokenizerPipelineTests {
  struct Expectation: Decodable {
    let text: String
    let ids: [Int32]
    /// Special tokens taken as text, without a beginning of sequence.
    let plain: [Int32]
    let decoded: String
  }

  private static let folders = ["llama3", "qwen2", "llama2"]

  @Test(arguments: folders) func equalsReference(folder: String) throws {
    let tokenizer = try TokenizerFixture.tokenizer("tokenizers/\(folder)")
    let expectations = try TokenizerFixture.decode([Expectation].self, "tokenizers/\(folder)/expected.json")
    #expect(expectations.count == 30)
    for expected in expectations {
      #expect(tokenizer.encode(expected.text, parsingSpecialTokens: true) == expected.ids, "\(expected.text)")
      let plain = tokenizer.encode(expected.text, parsingSpecialTokens: false, addingBOS: false)
      #expect(plain == expected.plain, "\(expected.text)")
      let decoded = tokenizer.decode(expected.ids, skippingSpecialTokens: true)
      #expect(Array(decoded.utf8) == Array(expected.decoded.utf8))
    }
  }

  @Test func configuration() throws {
    let llama3 = try TokenizerFixture.tokenizer("tokenizers/llama3")
    #expect(llama3.addsBOS && llama3.bosToken == llama3.id(of: "<|begin|>"))
    #expect(llama3.eosTokens == [llama3.id(of: "<|end|>")])
    #expect(llama3.chatTemplates == ["default": "{{ messages }}", "rag": "{}"])
    let qwen2 = try TokenizerFixture.tokenizer("tokenizers/qwen2")
    #expect(!qwen2.addsBOS && qwen2.bosToken == nil)
    #expect(qwen2.eosTokens == [qwen2.id(of: "<|end|>")])
    #expect(qwen2.encode("", parsingSpecialTokens: true, addingBOS: true) == [])
    let llama2 = try TokenizerFixture.tokenizer("tokenizers/llama2")
    #expect(llama2.addsBOS && llama2.bosToken == 1 && llama2.eosTokens == [2])
    #expect(llama2.tokenBytes(3 + 0x0A) == [0x0A])
    #expect(llama2.tokenBytes(try #require(llama2.id(of: "▁"))) == [0x20])
  }

  @Test(arguments: folders) func decodingGivesTheTextBack(folder: String) throws {
    let tokenizer = try TokenizerFixture.tokenizer("tokenizers/\(folder)")
    var random = TinyRandom(seed: 11)
    for _ in 0..<500 {
      var text = TokenizerFixture.randomText(&random)
      if folder == "qwen2" { text = text.precomposedStringWithCanonicalMapping }
      // U+2581 is how SentencePiece writes a space.
      let expected = folder == "llama2" ? spaced(text) : text
      let ids = tokenizer.encode(text, parsingSpecialTokens: false)
      let decoded = tokenizer.decode(ids, skippingSpecialTokens: true)
      #expect(Array(decoded.utf8) == Array(expected.utf8), "\(text.debugDescription)")
    }
  }

  private func spaced(_ text: String) -> String {
    String(String.UnicodeScalarView(text.unicodeScalars.map { $0 == "\u{2581}" ? " " : $0 }))
  }

  /// A long piece goes by the heap, a short one by the scan; a cut where no merge reaches gives the same.
  @Test(arguments: folders) func longPiecesEqualShortOnes(folder: String) throws {
    let tokenizer = try TokenizerFixture.tokenizer("tokenizers/\(folder)")
    let word = "perpetual\u{4E2D}"
    let ids = tokenizer.encode("x" + word, parsingSpecialTokens: true, addingBOS: false).dropFirst(
      tokenizer.encode("x", parsingSpecialTokens: true, addingBOS: false).count)
    let many = tokenizer.encode(
      "x" + String(repeating: word, count: 3000), parsingSpecialTokens: true, addingBOS: false)
    let first = tokenizer.encode("x", parsingSpecialTokens: true, addingBOS: false)
    #expect(many == first + (0..<3000).flatMap { _ in ids })
  }

  @Test(arguments: folders) func aMillionEqualLetters(folder: String) throws {
    let tokenizer = try TokenizerFixture.tokenizer("tokenizers/\(folder)")
    for text in [String(repeating: "e", count: 1_000_000), String(repeating: " ", count: 1_000_000) + "e"] {
      let ids = tokenizer.encode(text, parsingSpecialTokens: true)
      #expect(tokenizer.decode(ids, skippingSpecialTokens: true) == text)
    }
  }

  struct StartPipeline: Decodable {
    struct Expectation: Decodable {
      let text: String
      let ids: [Int32]
    }

    let name: String
    /// tokenizer.json
    let tokenizer: String
    let texts: [Expectation]
  }

  /// Metaspace puts its character before pieces that begin with what stands for the text's first character.
  @Test func findsTheTextsFirstCharacterInWhatItBecomes() throws {
    let pipelines = try TokenizerFixture.decode([StartPipeline].self, "tokenizers/text-starts.json")
    #expect(pipelines.count == 21 && pipelines.allSatisfy { $0.texts.count == 36 })
    let folder = FileManager.default.temporaryDirectory.appending(path: "starts-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    for pipeline in pipelines {
      try Data(pipeline.tokenizer.utf8).write(to: folder.appending(path: "tokenizer.json"))
      let tokenizer = try Tokenizer(.huggingFace(folder), name: pipeline.name)
      for expected in pipeline.texts {
        let ids = tokenizer.encode(expected.text, parsingSpecialTokens: true)
        #expect(ids == expected.ids, "\(pipeline.name): \(expected.text.debugDescription)")
      }
    }
  }

  /// Jamo beside those of modern syllables compose with nothing (Unicode 15, section 3.12).
  @Test func onlyModernHangulIsComposed() {
    let cases = [
      ("\u{1112}\u{1175}\u{11C2}", "\u{D7A3}"), ("\u{1113}\u{1161}", "\u{1113}\u{1161}"),
      ("\u{1100}\u{1176}\u{11A8}", "\u{1100}\u{1176}\u{11A8}"), ("\u{1100}\u{1161}\u{11A7}", "\u{AC00}\u{11A7}"),
      ("e\u{301}\u{1113}\u{1161}\u{11A8}e\u{301}", "\u{E9}\u{1113}\u{1161}\u{11A8}\u{E9}"),
      ("\u{11A7}\u{301}\u{323}\u{1100}\u{1161}", "\u{11A7}\u{323}\u{301}\u{AC00}"),
    ]
    for (text, expected) in cases {
      for step in [NormalizerStep.nfc, .nfkc] {
        let found = Normalizer(steps: [step]).normalize(Array(text.utf8))
        #expect(found == Array(expected.utf8), "\(text.unicodeScalars.map(\.value))")
      }
    }
  }

  @Test func manyThreadsShareOne() async throws {
    let tokenizer = try TokenizerFixture.tokenizer("tokenizers/llama3")
    let expectations = try TokenizerFixture.decode([Expectation].self, "tokenizers/llama3/expected.json")
    let texts = expectations.map(\.text)
    let results = await withTaskGroup(of: [[Int32]].self) { group in
      for _ in 0..<16 {
        group.addTask { texts.map { tokenizer.encode($0, parsingSpecialTokens: true) } }
      }
      return await group.reduce(into: []) { $0.append($1) }
    }
    for result in results { #expect(result == expectations.map(\.ids)) }
  }
}

/// SentencePiece's merging by score, worked out by hand.
@Suite struct TokenizerScoreTests {
  private func vocabulary() -> GGUFVocabulary {
    var tokens = ["<unk>", "<s>", "</s>"]
    tokens += (UInt8.min...UInt8.max).map { String(decoding: sentencePieceText(of: $0), as: UTF8.self) }
    let pieces: [(String, Float)] = [
      ("▁", -9), ("a", -9), ("b", -9), ("c", -9), ("ab", -1), ("bc", 0), ("abc", -2), ("▁a", -3), ("▁abc", -4),
      ("<s", 5), ("<", -9), ("s", -9), (">", -9), ("<tool>", 0),
    ]
    let types: [Int32] =
      [2, 3, 3] + Array(repeating: 6, count: 256) + Array(repeating: 1, count: pieces.count - 1) + [4]
    return GGUFVocabulary(
      model: "llama", preTokenizer: "", tokens: tokens + pieces.map(\.0), tokenTypes: types,
      scores: Array(repeating: 0, count: 259) + pieces.map(\.1), merges: [], bosToken: 1, eosToken: 2, unknownToken: 0,
      addBOS: true, addSpacePrefix: true, chatTemplate: nil)
  }

  private func texts(_ text: String, parsingSpecialTokens: Bool = true) throws -> [String] {
    let tokenizer = try Tokenizer(.gguf(vocabulary()), name: "spm")
    return tokenizer.encode(text, parsingSpecialTokens: parsingSpecialTokens).compactMap(tokenizer.tokenText)
  }

  @Test func highestScoreMergesFirst() throws {
    #expect(try texts("abc") == ["<s>", "▁abc"])
    #expect(try texts("ab") == ["<s>", "▁", "ab"])
    #expect(try texts("a") == ["<s>", "▁a"])
    #expect(try texts("ac bc") == ["<s>", "▁a", "c", "▁", "bc"])
    // Of equals the leftmost: a, ab | ab and so on.
    #expect(try texts("aabab") == ["<s>", "▁a", "ab", "ab"])
    #expect(try texts("") == ["<s>"])
  }

  @Test func unknownScalarsBecomeBytes() throws {
    #expect(try texts("aé\n") == ["<s>", "▁a", "<0xC3>", "<0xA9>", "<0x0A>"])
    let tokenizer = try Tokenizer(.gguf(vocabulary()), name: "spm")
    let ids = tokenizer.encode("aé \n ", parsingSpecialTokens: true)
    #expect(tokenizer.decode(ids, skippingSpecialTokens: true) == "aé \n ")
  }

  @Test func specialTokensNeverComeOutOfMerges() throws {
    #expect(try texts("a<s>b") == ["<s>", "▁a", "<s>", "▁", "b"])
    #expect(try texts("<s>", parsingSpecialTokens: false) == ["<s>", "▁", "<s", ">"])
    // A user-defined token is no special one: it is found in any text.
    #expect(try texts("a<tool>", parsingSpecialTokens: false) == ["<s>", "▁a", "<tool>"])
  }

  @Test func refusesWhatIsWrong() throws {
    func expectError(_ part: String, _ change: (inout GGUFVocabulary) -> Void) {
      var changed = vocabulary()
      change(&changed)
      let error = #expect(throws: ModelError.self) { try Tokenizer(.gguf(changed), name: "bad.gguf") }
      #expect(error?.description.contains(part) == true, "\(String(describing: error))")
    }
    expectError("model: 'bert' is not supported") { $0.model = "bert" }
    expectError("pre: 'elvish' is not supported") {
      $0.model = "gpt2"
      $0.preTokenizer = "elvish"
    }
    expectError("scores: 1 scores for") { $0.scores = [0] }
    expectError("scores: token 3's") { $0.scores[3] = .nan }
    expectError("token_type: token 4") { $0.tokenTypes[4] = 77 }
    expectError("token_type: 1 types for") { $0.tokenTypes = [1] }
    expectError("bos_token_id: 100000") { $0.bosToken = 100_000 }
    expectError("eos_token_id: -1") { $0.eosToken = -1 }
    expectError("add_bos_token") { $0.bosToken = nil }
    expectError("tokens: 0 tokens") { $0.tokens = [] }
    expectError("byte token 5") { $0.tokens[5] = "<0xZZ>" }
    expectError("merge 0: 'q' is not in the vocabulary") {
      $0.model = "gpt2"
      $0.merges = ["q a"]
    }
    expectError("merge 0, 'ab', is no pair") {
      $0.model = "gpt2"
      $0.merges = ["ab"]
    }
  }
}
