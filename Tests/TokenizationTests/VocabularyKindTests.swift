import Formats
import Foundation
import TestSupport
import Testing

@testable import Tokenization

/// Tiny vocabularies of the kinds that are no BPE in tokenizer.json, against what their own libraries made of the same texts
/// (scripts/fixtures/vocabulary_fixtures.py).
@Suite struct VocabularyKindTests {
  struct Expectations: Decodable {
    let bos: [Int32]
    let texts: [Expectation]
  }

  struct Expectation: Decodable {
    let text: String
    /// Special tokens taken as text, without a beginning of sequence.
    let plain: [Int32]
    /// Special tokens taken as such, with the beginning of sequence; `nil` if the library does not do that.
    let ids: [Int32]?
    /// Of `ids`, or else of `plain`.
    let decoded: String
  }

  static let kinds = [
    "spm-bpe", "spm-unigram", "spm-unigram-unknown", "unigram-bytes", "unigram-unknown", "tekken", "tiktoken",
  ]

  private func tokenizer(_ kind: String) throws -> Tokenizer {
    try TokenizerFixture.tokenizer("vocabularies/\(kind)")
  }

  @Test(arguments: kinds) func equalsItsLibrary(kind: String) throws {
    let tokenizer = try tokenizer(kind)
    let expectations = try TokenizerFixture.decode(Expectations.self, "vocabularies/\(kind)/expected.json")
    let unknown = tokenizer.id(of: "<unk>")
    #expect(expectations.texts.count == 38)
    #expect(tokenizer.encode("", parsingSpecialTokens: true) == expectations.bos)
    for expected in expectations.texts {
      let plain = tokenizer.encode(expected.text, parsingSpecialTokens: false, addingBOS: false)
      // The unigram models of `tokenizers` choose special tokens for text. Here only a parsed one becomes one.
      if !kind.hasPrefix("unigram") || !expected.plain.contains(where: { tokenizer.isSpecial($0) && $0 != unknown }) {
        #expect(plain == expected.plain, "\(expected.text.debugDescription)")
      }
      if let ids = expected.ids {
        #expect(tokenizer.encode(expected.text, parsingSpecialTokens: true) == ids, "\(expected.text.debugDescription)")
      }
      // Libraries write an unknown token as " ⁇ ", or leave it out.
      guard !plain.contains(where: tokenizer.isSpecial) else { continue }
      let decoded = tokenizer.decode(
        kind.hasPrefix("unigram") ? expected.ids ?? plain : plain, skippingSpecialTokens: true)
      #expect(Array(decoded.utf8) == Array(expected.decoded.utf8), "\(expected.text.debugDescription)")
    }
  }

  /// Constrained decoding, stop strings and logprobs see a token as its bytes.
  @Test(arguments: kinds) func bytesOfTokensMakeTheDecodedText(kind: String) throws {
    let tokenizer = try tokenizer(kind)
    var random = TinyRandom(seed: 21)
    for _ in 0..<300 {
      let text = TokenizerFixture.randomText(&random)
      let ids = tokenizer.encode(text, parsingSpecialTokens: false, addingBOS: false)
      #expect(ids.allSatisfy { !tokenizer.isSpecial($0) || tokenizer.tokenText($0) == "<unk>" })
      let bytes = ids.filter { !tokenizer.isSpecial($0) }.flatMap { tokenizer.tokenBytes($0) ?? [] }
      var decoder = StreamDecoder(tokenizer, isContinuation: true)
      let streamed = ids.map { decoder.push($0) }.joined() + decoder.finish()
      #expect(Array(streamed.utf8) == Array(String(decoding: bytes, as: UTF8.self).utf8))
      let whole = tokenizer.decode(ids, skippingSpecialTokens: true)
      #expect(Array(streamed.utf8.drop { $0 == 0x20 }) == Array(whole.utf8.drop { $0 == 0x20 }))
    }
  }

  /// Vocabularies without rules that change text, and with a token for every byte.
  @Test(arguments: ["spm-bpe", "tekken", "tiktoken"]) func decodingGivesTheTextBack(kind: String) throws {
    let tokenizer = try tokenizer(kind)
    var random = TinyRandom(seed: 22)
    for _ in 0..<500 {
      let text = TokenizerFixture.randomText(&random)
      // U+2581 is how SentencePiece writes a space.
      let scalars = text.unicodeScalars.map { kind == "spm-bpe" && $0 == "\u{2581}" ? " " : $0 }
      let ids = tokenizer.encode(text, parsingSpecialTokens: false)
      let decoded = tokenizer.decode(ids, skippingSpecialTokens: true)
      #expect(Array(decoded.utf8) == Array(String(String.UnicodeScalarView(scalars)).utf8), "\(text.debugDescription)")
    }
  }

  @Test(arguments: kinds) func aMillionEqualCharacters(kind: String) throws {
    let tokenizer = try tokenizer(kind)
    let start = ContinuousClock.now
    for (character, bytes) in [
      ("e", 1_000_000), (" ", 1_000_000), ("☃", 300_000), ("e\u{301}", 300_000), ("<tool>", 300_000),
    ] {
      let text = String(repeating: character, count: bytes / character.utf8.count)
      #expect(tokenizer.encode(text, parsingSpecialTokens: true).count <= 1_000_002)
    }
    // Seconds where time grows with the length of a text, hours where it grows with its square.
    #expect(ContinuousClock.now - start < .seconds(120))
  }

  @Test func specialTokensAreTextInData() throws {
    for kind in Self.kinds {
      let tokenizer = try tokenizer(kind)
      let special = try #require(tokenizer.specialTokens.keys.filter { $0 != "<unk>" }.sorted().first)
      let text = "the \(special) the \(special)"
      let id = try #require(tokenizer.specialTokens[special])
      let parsed = tokenizer.encode(text, parsingSpecialTokens: true, addingBOS: false)
      #expect(parsed.filter { $0 == id }.count == 2, "\(kind)")
      let data = tokenizer.encode(
        text, parsingSpecialTokens: true, except: [0..<4 + special.utf8.count], addingBOS: false)
      #expect(data.filter { $0 == id }.count == 1 && data.last == id, "\(kind)")
    }
  }

  /// A space is put before the text behind a special token, unless tokenizer_config.json has `legacy` false.
  @Test func spacesBehindSpecialTokens() throws {
    let source = TokenizerFixture.url("vocabularies/spm-bpe/tokenizer.model")
    let folder = FileManager.default.temporaryDirectory.appending(path: "vocabulary-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try FileManager.default.copyItem(at: source, to: folder.appending(path: "tokenizer.model"))
    func texts(_ config: String) throws -> [String] {
      try Data(config.utf8).write(to: folder.appending(path: "tokenizer_config.json"))
      let tokenizer = try Tokenizer(.huggingFace(folder), name: "m")
      return tokenizer.encode("the<ctl>the<end>", parsingSpecialTokens: true).compactMap(tokenizer.tokenText)
    }
    #expect(try texts(#"{}"#).prefix(4) == ["<s>", "▁the", "<ctl>", "▁the"])
    let behind = try texts(#"{"legacy":false}"#)
    #expect(behind.prefix(3) == ["<s>", "▁the", "<ctl>"] && behind[3].hasPrefix("t"))
    let added =
      #""added_tokens_decoder":{"460":{"content":"<end>","special":true},"3":{"content":"<ctl>","lstrip":true}}"#
    #expect(try texts("{\(added)}").last == "<end>")
    #expect(throws: ModelError.self) { try texts(#"{"added_tokens_decoder":{"460":{"content":"<ctl>"}}}"#) }
    #expect(throws: ModelError.self) { try texts(#"{"added_tokens_decoder":{"-1":{"content":"<x>"}}}"#) }
    #expect(throws: ModelError.self) { try texts(#"{"added_tokens_decoder":{"5":{"content":"<x>"}}}"#) }
  }

  @Test func itsTokenizerIsFoundInAFolder() throws {
    for kind in Self.kinds {
      let source = try openTokenizer(at: TokenizerFixture.url("vocabularies/\(kind)"))
      #expect(try Tokenizer(source, name: kind).vocabularySize > 256)
    }
  }
}
