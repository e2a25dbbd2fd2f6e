import Tokenization
import Formats
import Model
import TestSupport
import Testing

@testable import Serve

@Suite struct CompletionLogprobsTests {
  /// Offsets count the code points of the text that a client is given.
  @Test func offsetsAreThoseOfTheEchoedText() throws {
    let tokenizer = try TinyModel(TinyShape(layers: 1)).tokenizer()
    func records(_ tokens: [Int32]) -> [TokenRecord] {
      tokens.map { TokenRecord(token: $0, bytes: tokenizer.tokenBytes($0) ?? [], logprob: nil, top: []) }
    }
    let prompt: [Int32] = [0] + tokenizer.encode("é€x", parsingSpecialTokens: false) + [TinyTokenizer.token(0xC3)]
    let answer: [Int32] = [TinyTokenizer.token(0x61), 0, TinyTokenizer.token(0x62)]
    var logprobs = CompletionLogprobs(tokenizer: tokenizer)
    logprobs.append(records(prompt), isPrompt: true)
    logprobs.append(records(answer), isPrompt: false)
    let offsets = logprobs.take().object?["text_offset"]?.array?.compactMap(\.integer)
    let text = tokenizer.decode(prompt, skippingSpecialTokens: false)
    #expect(text == "<|end|>é€x\u{FFFD}")
    let scalars = text.unicodeScalars.count
    // The special token, é, three bytes of €, x, half a character; of the answer only a and b are shown.
    #expect(offsets == [0, 7, 8, 8, 8, 9, 10, scalars, scalars + 1, scalars + 1])
  }

  @Test func bytesThatAreNoTextAreSpeltOut() {
    #expect(CompletionLogprobs.name(Array("é\n".utf8)) == "é\n")
    #expect(CompletionLogprobs.name([0xC3]) == "bytes:\\xc3")
    #expect(CompletionLogprobs.name([0x61, 0xFF, 0x0A]) == "bytes:\\x61\\xff\\x0a")
    #expect(CompletionLogprobs.name([]) == "")
  }
}
