public import Model

/// A token with its text and its log-probability.
public struct TokenRecord: Sendable, Equatable {
  /// The token's id.
  public var token: Int32
  /// The token's exact bytes, which need not be valid UTF-8 alone.
  public var bytes: [UInt8]
  /// `nil` if it was not requested, and for a prompt's first token.
  public var logprob: Float?
  /// The token's place among all tokens, from 1; `nil` if it was not requested, and for a prompt's first token.
  public var rank: Int32?
  /// The most probable tokens at the same position, as many as were requested.
  public var top: [TokenLogprob]
}

/// Why an answer ended.
public enum FinishReason: String, Sendable {
  /// The model generated an end token, or the text has a stop string.
  case stop
  /// The answer has `maxTokens` tokens, or its timeout has passed.
  case length
}

/// How many tokens a generation took.
public struct GenerationUsage: Sendable, Equatable {
  /// Tokens of the prompt.
  public var promptTokens = 0
  /// Generated tokens.
  public var completionTokens = 0
  /// Tokens of the prompt whose keys and values were in the cache.
  public var cachedTokens = 0
}

/// An event for a generation's client. They come in this order: at most one `prompt` or `pooled`, any number of `output`,
/// then `finished`. At any point `failed` may come instead; it is then the last event.
public enum GenerationEvent: Sendable {
  /// The prompt's tokens.
  case prompt([TokenRecord])
  /// The mean of the prompt's last hidden states after the final norm: [hiddenSize] of Euclidean length 1.
  case pooled([Float])
  /// Further text of the answer, and the tokens whose text ends in it. Either may be empty.
  case output(text: String, tokens: [TokenRecord])
  /// The answer is complete.
  case finished(FinishReason, GenerationUsage)
  /// The generation failed. No further text follows.
  case failed(EngineError)
}
