import Tokenization
import Formats
import Model

/// The `logprobs` object of a completion's choice: tokens, their logprobs, the most probable alternatives, offsets.
struct CompletionLogprobs: LogprobsWriter {
  private(set) var tokens: [JSONValue] = []
  private var tokenLogprobs: [JSONValue] = []
  private var topLogprobs: [JSONValue] = []
  private var textOffsets: [JSONValue] = []
  /// Where the next token's text begins in the choice's text, in Unicode code points.
  private var offset = 0
  private var decoder: StreamDecoder
  /// The prompt is decoded as it was given: with special tokens, and as the beginning of a text.
  private var promptDecoder: StreamDecoder
  private var isInPrompt = false
  private let tokenizer: Tokenizer

  init(tokenizer: Tokenizer) {
    self.tokenizer = tokenizer
    decoder = StreamDecoder(tokenizer, isContinuation: true)
    promptDecoder = StreamDecoder(tokenizer, skippingSpecialTokens: false)
  }

  mutating func append(_ records: [TokenRecord], isPrompt: Bool) {
    if isInPrompt, !isPrompt { offset += promptDecoder.finish().unicodeScalars.count }
    isInPrompt = isPrompt
    for record in records {
      let name = Self.name(record.bytes)
      tokens.append(.string(name))
      tokenLogprobs.append(.logprob(record.logprob))
      textOffsets.append(.integer(offset))
      if let logprob = record.logprob {
        var pairs = record.top.map { top in
          (key: Self.name(tokenizer.tokenBytes(top.token) ?? []), value: JSONValue.logprob(top.logprob))
        }
        // OpenAI's list of alternatives always includes the token itself.
        if !record.top.contains(where: { $0.token == record.token }) {
          pairs.append((key: name, value: JSONValue.logprob(logprob)))
        }
        topLogprobs.append(.object(JSONObject(keepingFirst: pairs)))
      } else {
        topLogprobs.append(.null)
      }
      let text = isPrompt ? promptDecoder.push(record.token) : decoder.push(record.token)
      offset += text.unicodeScalars.count
    }
  }

  /// What was appended since the last call.
  mutating func take() -> JSONValue {
    defer { (tokens, tokenLogprobs, topLogprobs, textOffsets) = ([], [], [], []) }
    return [
      "tokens": .array(tokens), "token_logprobs": .array(tokenLogprobs), "top_logprobs": .array(topLogprobs),
      "text_offset": .array(textOffsets),
    ]
  }

  /// The token's text, or `bytes:\xNN…` where its bytes are not UTF-8 on their own.
  static func name(_ bytes: [UInt8]) -> String {
    if let text = String(validating: bytes, as: UTF8.self) { return text }
    return "bytes:" + bytes.map { "\\x" + hexadecimal([$0]) }.joined()
  }
}

extension JSONValue {
  /// A log-probability. JSON has no infinity: a token that is impossible has −9999, as OpenAI writes it.
  static func logprob(_ logprob: Float?) -> JSONValue {
    guard let logprob else { return .null }
    // Through the decimal form, which keeps a Float's shortest digits.
    return .number(logprob.isFinite ? Double("\(logprob)") ?? Double(logprob) : -9999)
  }
}
