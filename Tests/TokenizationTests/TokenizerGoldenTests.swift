import Formats
import Foundation
import TestSupport
import Testing

@testable import Tokenization

/// SmolLM2's tokenizer against ids from Hugging Face's `tokenizers`.
@Suite struct TokenizerGoldenTests {
  struct Golden: Decodable {
    let text: String
    let ids: [Int32]
  }

  @Test func idsEqualReference() throws {
    let tokenizer = try TokenizerFixture.tokenizer("hf")
    let goldens = try TokenizerFixture.decode([Golden].self, "tokenizer-golden.json")
    #expect(goldens.count == 18)
    for golden in goldens {
      #expect(tokenizer.encode(golden.text, parsingSpecialTokens: true) == golden.ids, "\(golden.text)")
    }
  }

  @Test func configurationIsRead() throws {
    let tokenizer = try TokenizerFixture.tokenizer("hf")
    #expect(tokenizer.vocabularySize == 49152)
    #expect(tokenizer.bosToken == 1)
    #expect(tokenizer.eosTokens == [2])
    #expect(!tokenizer.addsBOS)
    #expect(tokenizer.chatTemplate?.contains("<|im_start|>assistant") == true)
    #expect(tokenizer.specialTokens.count == 17)
    #expect(tokenizer.specialTokens["<|im_end|>"] == 2)
    #expect(tokenizer.id(of: "<|im_end|>") == 2)
    #expect(tokenizer.id(of: "no such token") == nil)
    #expect(tokenizer.isSpecial(2) && !tokenizer.isSpecial(100) && !tokenizer.isSpecial(-1))
    #expect(tokenizer.tokenBytes(2) == Array("<|im_end|>".utf8))
    let the = try #require(tokenizer.id(of: "Ġthe"))
    #expect(tokenizer.tokenBytes(the) == Array(" the".utf8))
    #expect(tokenizer.tokenText(the) == "Ġthe")
    #expect(
      tokenizer.tokenBytes(49152) == nil && tokenizer.tokenBytes(.min) == nil && tokenizer.tokenBytes(.max) == nil)
  }

  @Test func specialTokensAreTextWhenNotParsed() throws {
    let tokenizer = try TokenizerFixture.tokenizer("hf")
    let text = "<|im_start|>user\nhi<|im_end|><|endoftext|>"
    let ids = tokenizer.encode(text, parsingSpecialTokens: false)
    #expect(!ids.contains(where: tokenizer.isSpecial))
    #expect(tokenizer.decode(ids, skippingSpecialTokens: true) == text)
    #expect(tokenizer.encode(text, parsingSpecialTokens: true).filter(tokenizer.isSpecial) == [1, 2, 0])
  }

  @Test func beginningOfSequenceOnDemand() throws {
    let tokenizer = try TokenizerFixture.tokenizer("hf")
    #expect(tokenizer.encode("a", parsingSpecialTokens: true, addingBOS: true) == [1, 81])
    #expect(tokenizer.encode("", parsingSpecialTokens: true, addingBOS: true) == [1])
  }

  /// A GGUF file's metadata of the same model, as converters write it.
  @Test func metadataGivesTheSameIDs() throws {
    let json = try TokenizerFixture.json("hf/tokenizer.json")
    let members = try #require(json["model"]?["vocab"]?.members)
    var tokens = [String](repeating: "", count: members.count)
    for member in members { tokens[Int(try #require(member.value.tokenID))] = member.key }
    let merges = try #require(json["model"]?["merges"]?.array).map { pair in
      (pair.array ?? []).compactMap(\.string).joined(separator: " ")
    }
    let fromFile = try TokenizerFixture.tokenizer("hf")
    let types = tokens.indices.map { fromFile.isSpecial(Int32($0)) ? Int32(3) : 1 }
    let vocabulary = GGUFVocabulary(
      model: "gpt2", preTokenizer: "smollm", tokens: tokens, tokenTypes: types, scores: [], merges: merges,
      bosToken: 1, eosToken: 2, unknownToken: 0, addBOS: false, addSpacePrefix: false, chatTemplate: "{{ x }}")
    let fromMetadata = try Tokenizer(.gguf(vocabulary), name: "smol.gguf")
    #expect(fromMetadata.eosTokens == [2])
    #expect(fromMetadata.chatTemplate == "{{ x }}")
    #expect(fromMetadata.specialTokens == fromFile.specialTokens)
    for golden in try TokenizerFixture.decode([Golden].self, "tokenizer-golden.json") {
      #expect(fromMetadata.encode(golden.text, parsingSpecialTokens: true) == golden.ids)
    }
    var random = TinyRandom(seed: 7)
    for _ in 0..<500 {
      let text = TokenizerFixture.randomText(&random)
      let ids = fromMetadata.encode(text, parsingSpecialTokens: false)
      #expect(ids == fromFile.encode(text, parsingSpecialTokens: false), "\(text.debugDescription)")
    }
  }
}
