public import Model

/// A token with the text it stands for.
public struct TokenRecord: Sendable, Equatable {
  public var token: Int32
  /// Exact bytes; on their own not always UTF-8.
  public var bytes: [UInt8]
  /// `nil` where none was asked for, and for a prompt's first token.
  public var logprob: Float?
  public var top: [TokenLogprob]
}

public enum FinishReason: String, Sendable {
  /// The model ended its text, or a stop string came up.
  case stop
  /// `maxTokens`, or the context's end.
  case length
}

public struct GenerationUsage: Sendable, Equatable {
  public var promptTokens = 0
  public var completionTokens = 0
  /// Of the prompt's, those whose keys and values were in the cache.
  public var cachedTokens = 0
}

/// What a generation tells of itself, in this order: at most one `prompt`, then `output`s, then `finished`; or at
/// any point `failed`, after which nothing follows.
public enum GenerationEvent: Sendable {
  case prompt([TokenRecord])
  /// Text that is final, and the tokens whose text ends in it. Either may be empty.
  case output(text: String, tokens: [TokenRecord])
  case finished(FinishReason, GenerationUsage)
  case failed(EngineError)
}
