import TestSupport
import Testing
import Tokenization

@testable import Formats
@testable import Model
@testable import Serve

/// Fields that change prompts, and words that answers never have, down to tokens.
@Suite struct PromptFieldsTests {
  private let plain: Tokenizer
  private let filling: Tokenizer

  init() throws {
    plain = try TinyTokenizer.with(specialTokens: [])
    filling = try TinyTokenizer.with(
      specialTokens: ["<s>", "<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<|file_sep|>"], bos: "<s>")
  }

  private func fields(_ json: String) throws -> RequestFields { try RequestFields(Array(json.utf8), JSONLimits()) }

  private func parse(_ json: String, _ tokenizer: Tokenizer, contextLength: Int = 100) throws -> AnswerRequest {
    try CompletionRequest.parse(
      fields(json),
      prompts: PromptTokenizer(tokenizer: tokenizer, contextLength: contextLength, abandonment: Abandonment()),
      grammars: GrammarCache(tokenizer))
  }

  private func param(_ json: String, _ tokenizer: Tokenizer) -> String? {
    do {
      _ = try parse(json, tokenizer)
      return nil
    } catch { return (error as? APIError)?.param ?? "\(error)" }
  }

  private func bytes(_ text: String) -> [Int32] { text.utf8.map(TinyTokenizer.token) }

  @Test func theLastTokensOfAPromptAreKept() throws {
    #expect(try parse(#"{"prompt": "vwxyz", "truncate_prompt_tokens": 3}"#, plain).prompts == [bytes("xyz")])
    #expect(try parse(#"{"prompt": [5, 6, 7], "truncate_prompt_tokens": 2}"#, plain).prompts == [[6, 7]])
    #expect(
      try parse(#"{"prompt": ["vw", "xyz"], "truncate_prompt_tokens": 2}"#, plain).prompts == [
        bytes("vw"), bytes("yz"),
      ])
    // A prompt that is far too long otherwise.
    let long = String(repeating: "x", count: 5000) + "yz"
    let cut = try parse(#"{"prompt": "\#(long)", "truncate_prompt_tokens": -1, "max_tokens": 90}"#, plain)
    #expect(cut.prompts == [bytes("xxxxxxxxyz")])
    #expect(param(#"{"prompt": "\#(long)", "max_tokens": 90}"#, plain) == "prompt")
    for value in ["0", "-2", "101", "true", "1.5"] {
      #expect(
        param(#"{"prompt": "x", "truncate_prompt_tokens": \#(value)}"#, plain) == "truncate_prompt_tokens", "\(value)")
    }
  }

  @Test func aSuffixGoesBetweenTheMarks() throws {
    let id = { (text: String) in try #require(self.filling.id(of: text)) }
    let (bos, before, after, middle) = try (id("<s>"), id("<fim_prefix>"), id("<fim_suffix>"), id("<fim_middle>"))
    let request = try parse(#"{"prompt": ["xy", [9]], "suffix": "z"}"#, filling)
    let start = filling.addsBOS ? [bos] : []
    #expect(request.prompts.first == start + [before] + bytes("xy") + [after] + bytes("z") + [middle])
    #expect(request.prompts.last == start + [before, 9, after] + bytes("z") + [middle])
    #expect(try request.options.endTokens == [before, after, middle, id("<|file_sep|>")])
    // Without a text before it, and without a suffix.
    #expect(
      try parse(#"{"prompt": "", "suffix": "z"}"#, filling).prompts == [
        start + [before, after] + bytes("z") + [middle]
      ])
    #expect(try parse(#"{"prompt": "xy", "suffix": ""}"#, filling).prompts == [start + bytes("xy")])
    #expect(param(#"{"prompt": "x", "suffix": "z"}"#, plain) == "suffix")
    #expect(param(#"{"prompt": "x", "suffix": "z", "echo": true}"#, filling) == "suffix")
    #expect(param(#"{"prompt": "x", "suffix": 7}"#, filling) == "suffix")
    #expect(param(#"{"prompt": "x", "suffix": "\#(String(repeating: "z", count: 100))"}"#, filling) == "prompt")
  }

  @Test func badWordsAreTokenisedWithAndWithoutASpace() throws {
    func words(_ json: String) throws -> [[Int32]] {
      try parse(#"{"prompt": "x", "bad_words": \#(json)}"#, plain).options.sampling.badWords
    }
    let (the, spaced) = try (#require(plain.id(of: "the")), #require(plain.id(of: "Ġthe")))
    #expect(try words(#"["the", " the"]"#) == [[the], [spaced], [the], [spaced]])
    // Behind a space it has more tokens, so only the word itself is left out.
    #expect(try words(#"["xy"]"#) == [bytes("xy")])
    #expect(try words(#"[" "]"#) == [bytes(" ")])
    #expect(try words("[]").isEmpty)
    for json in [#""the""#, #"[""]"#, "[7]"] {
      #expect(param(#"{"prompt": "x", "bad_words": \#(json)}"#, plain) == "bad_words", "\(json)")
    }
  }

  @Test func repetitionHasOneWindow() throws {
    func sampling(_ json: String) throws -> SamplingParameters {
      try parse(#"{"prompt": "x"\#(json)}"#, plain).options.sampling
    }
    #expect(try sampling("").repetitionWindow == nil)
    let recent = try sampling(#", "repeat_penalty": 1.5"#)
    #expect(recent.repetitionPenalty == 1.5 && recent.repetitionWindow == 64)
    #expect(try sampling(#", "repeat_penalty": 1.5, "repeat_last_n": -1"#).repetitionWindow == nil)
    #expect(try sampling(#", "repeat_penalty": 1.5, "repeat_last_n": 0"#).repetitionWindow == 0)
    let whole = try sampling(#", "repetition_penalty": 2, "repeat_penalty": 1"#)
    #expect(whole.repetitionPenalty == 2 && whole.repetitionWindow == nil)
    #expect(try sampling(#", "repetition_penalty": 2, "repeat_last_n": 7"#).repetitionWindow == 7)
    #expect(param(#"{"prompt": "x", "repetition_penalty": 2, "repeat_penalty": 2}"#, plain) == "repeat_penalty")
    #expect(param(#"{"prompt": "x", "repeat_last_n": -2}"#, plain) == "repeat_last_n")
  }

  @Test func moreTokensThanTheLimitCannotBeDemanded() throws {
    #expect(param(#"{"prompt": "x", "min_tokens": 5, "max_tokens": 4}"#, plain) == "min_tokens")
    #expect(try parse(#"{"prompt": "x", "min_tokens": 4, "max_tokens": 4}"#, plain).options.sampling.minimumTokens == 4)
  }
}
