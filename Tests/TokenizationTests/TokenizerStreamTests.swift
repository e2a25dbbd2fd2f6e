import Formats
import Foundation
import TestSupport
import Testing

@testable import Tokenization

@Suite struct StreamDecoderTests {
  /// All 256 bytes as tokens of one byte each.
  private func byteTokenizer() throws -> Tokenizer {
    try Tokenizer(
      .gguf(
        GGUFVocabulary(
          model: "gpt2", preTokenizer: "gpt-2", tokens: ByteLevelAlphabet.scalars.map { String($0) }, tokenTypes: [],
          scores: [], merges: [], bosToken: nil, eosToken: nil, unknownToken: nil, addBOS: false, addSpacePrefix: false,
          chatTemplate: nil)), name: "bytes")
  }

  @Test func holdsBackHalfCharacters() throws {
    var decoder = StreamDecoder(try byteTokenizer())
    let outputs = Array("a😀é".utf8).map { decoder.push(Int32($0)) }
    #expect(outputs == ["a", "", "", "", "😀", "", "é"])
    #expect(decoder.finish() == "")
  }

  @Test func givesUpOnWhatCannotBecomeValid() throws {
    func outputs(_ bytes: [UInt8]) throws -> [String] {
      var decoder = StreamDecoder(try byteTokenizer())
      return bytes.map { decoder.push(Int32($0)) } + [decoder.finish()]
    }
    #expect(try outputs([0xC0]) == ["\u{FFFD}", ""])
    #expect(try outputs([0x80, 0x41]) == ["\u{FFFD}", "A", ""])
    #expect(try outputs([0xE2, 0x82]) == ["", "", "\u{FFFD}"])
    #expect(try outputs([0xE2, 0x82, 0x41]) == ["", "", "\u{FFFD}A", ""])
    #expect(try outputs([0xED, 0xA0]) == ["", "\u{FFFD}\u{FFFD}", ""])
    #expect(try outputs([0xF0, 0x9F, 0xE2, 0x82, 0xAC]) == ["", "", "\u{FFFD}", "", "€", ""])
  }

  @Test func streamEqualsWholeDecodeForRandomBytes() throws {
    let tokenizer = try byteTokenizer()
    var random = TinyRandom(seed: 3)
    let leads: [UInt8] = [
      0x20, 0x41, 0x80, 0xA0, 0xBF, 0xC2, 0xC3, 0xE0, 0xE2, 0xED, 0xEF, 0xF0, 0xF4, 0xF5, 0xFF, 0x9F,
    ]
    for _ in 0..<3000 {
      let bytes = (0..<Int.random(in: 0...12, using: &random)).map { _ in leads.randomElement(using: &random) ?? 0 }
      let ids = bytes.map(Int32.init)
      var decoder = StreamDecoder(tokenizer)
      let streamed = ids.map { decoder.push($0) }.joined() + decoder.finish()
      // The standard library's own repair is the oracle.
      #expect(Array(streamed.utf8) == Array(String(decoding: bytes, as: UTF8.self).utf8), "\(bytes)")
      #expect(streamed == tokenizer.decode(ids, skippingSpecialTokens: true))
    }
  }

  @Test(arguments: ["hf", "tokenizers/llama2", "tokenizers/llama3"], [true, false])
  func streamEqualsWholeDecodeForRandomIDs(folder: String, skipping: Bool) throws {
    let tokenizer = try TokenizerFixture.tokenizer(folder)
    var random = TinyRandom(seed: 5)
    for _ in 0..<300 {
      // A few ids beyond the vocabulary's ends among them.
      let ids = (0..<30).map { _ in Int32.random(in: -2...Int32(tokenizer.vocabularySize + 2), using: &random) }
      var decoder = StreamDecoder(tokenizer, skippingSpecialTokens: skipping)
      let streamed = ids.map { decoder.push($0) }.joined() + decoder.finish()
      #expect(Array(streamed.utf8) == Array(tokenizer.decode(ids, skippingSpecialTokens: skipping).utf8))
    }
  }

  @Test func leadingSpaceOfSentencePiece() throws {
    let tokenizer = try TokenizerFixture.tokenizer("tokenizers/llama2")
    let ids = tokenizer.encode(" the the", parsingSpecialTokens: true)
    #expect(tokenizer.decode(ids, skippingSpecialTokens: true) == " the the")
    let word = tokenizer.encode("the", parsingSpecialTokens: true, addingBOS: false)
    var decoder = StreamDecoder(tokenizer)
    #expect(word.map { decoder.push($0) }.joined() == "the")
    var continued = StreamDecoder(tokenizer, isContinuation: true)
    #expect(word.map { continued.push($0) }.joined() == " the")
  }
}
