public import Model

/// What a client asked to be generated, checked and tokenised.
public struct GenerationRequest: Sendable {
  /// At least one token; with `maxTokens` within the model's context.
  public var prompt: [Int32]
  /// Held until the generation ends, whatever happens to their names meanwhile.
  public var adapters: AdapterSet
  /// 0 only scores the prompt.
  public var maxTokens: Int
  public var sampling: SamplingParameters
  /// The generation ends where the first of these would begin; none is empty.
  public var stop: [String]
  /// Tokens that end the generation beside the model's own.
  public var endTokens: Set<Int32>
  /// Goes on after an end-of-text token, for benchmarks.
  public var ignoresEndOfText: Bool
  /// How many of the most probable tokens to report beside each token; `nil` reports no logprobs.
  public var topLogprobs: Int?
  /// Reports the prompt's own tokens and, with `topLogprobs`, their logprobs.
  public var echoesPrompt: Bool
  /// Whose request it is: clients get equal shares.
  public var client = ClientIdentity()
  /// What the metrics call its adapters.
  public var label = "base"
  /// How long it may take from its submission to its end.
  public var timeout: Duration?

  public init(
    prompt: [Int32], adapters: AdapterSet = .none, maxTokens: Int, sampling: SamplingParameters, stop: [String] = [],
    endTokens: Set<Int32> = [], ignoresEndOfText: Bool = false, topLogprobs: Int? = nil, echoesPrompt: Bool = false
  ) {
    self.prompt = prompt
    self.adapters = adapters
    self.maxTokens = maxTokens
    self.sampling = sampling
    self.stop = stop
    self.endTokens = endTokens
    self.ignoresEndOfText = ignoresEndOfText
    self.topLogprobs = topLogprobs
    self.echoesPrompt = echoesPrompt
  }

  /// Every position of the prompt needs its logits.
  var scoresPrompt: Bool { echoesPrompt && topLogprobs != nil }
}

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

public enum EngineError: Error, Equatable, Sendable {
  /// The engine stops, with the process.
  case shuttingDown
  /// More positions than a sequence may have.
  case exceedsContext(positions: Int, contextLength: Int)
  /// More positions than the whole cache holds.
  case exceedsCache(positions: Int, capacity: Int)
  /// The prompt has a token that the model has no embedding for; tokenizers may know more than their model.
  case noSuchToken(Int32, vocabulary: Int)
  /// So many requests wait that no more are taken; in about so many seconds they will have begun.
  case overloaded(waiting: Int, retryAfter: Int)
  /// The request's own time was over before its first token.
  case timedOut
  /// Hidden states or logits have left the range of f32; without adapters it is the base that does it.
  case notFinite(hasAdapters: Bool)

  public var message: String {
    switch self {
    case .shuttingDown: "the server is shutting down"
    case .exceedsContext(let positions, let contextLength):
      "the request needs \(positions) positions, of which there must be between 1 and \(contextLength)"
    case .exceedsCache(let positions, let capacity):
      "the request needs \(positions) positions of key-value cache, and there are \(capacity) in all (see --kv-memory)"
    case .noSuchToken(let token, let vocabulary):
      "the prompt has the token \(token), and the model knows those from 0 to \(vocabulary - 1)"
    case .overloaded(let waiting, let seconds):
      "\(waiting) requests are waiting already; try again in about \(seconds) s"
    case .notFinite(hasAdapters: true):
      "the model's numbers are not finite with these adapters at these scales: their weights or scales are too large"
    case .notFinite(hasAdapters: false): "the model's numbers are not finite: its own weights are too large"
    case .timedOut: "the request's timeout was over before its first token"
    }
  }
}

/// Names a generation while it runs.
public struct GenerationID: Hashable, Sendable {
  let value: UInt64
}
