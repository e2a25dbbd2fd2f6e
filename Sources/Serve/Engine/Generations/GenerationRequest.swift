public import Grammars
public import Model

/// One prompt, tokenised and checked, and how its answer is to be generated.
public struct GenerationRequest: Sendable {
  /// At least one token. Prompt and `maxTokens` together fit into the model's context.
  public var prompt: [Int32]
  /// The adapters, which the request holds until its generation ends, even if their names are given to other adapters.
  public var adapters: AdapterSet
  /// How the answer is generated.
  public var options: GenerationOptions
  /// The metrics' label of the adapters.
  public var label: String

  /// - Parameters: as the properties
  public init(prompt: [Int32], adapters: AdapterSet = .none, options: GenerationOptions, label: String = "base") {
    self.prompt = prompt
    self.adapters = adapters
    self.options = options
    self.label = label
  }
}

/// How an answer is generated. The choices of one request have the same options but for the seed.
public struct GenerationOptions: Sendable {
  /// Maximum tokens of the answer. 0 only scores the prompt.
  public var maxTokens: Int
  /// How tokens are drawn, with the seed.
  public var sampling: SamplingParameters
  /// The grammar that the answer must follow; `nil` where it is free.
  public var constraint: CompiledGrammar?
  /// Stop strings: the answer ends before the first of them. None is empty.
  public var stop: [String]
  /// Tokens that end the answer, beside the model's own.
  public var endTokens: Set<Int32>
  /// Continues after the model's end-of-text tokens, for benchmarks.
  public var ignoresEndOfText: Bool
  /// How many of the most probable tokens to report beside each token; `nil` reports no log-probabilities.
  public var topLogprobs: Int?
  /// Reports the prompt's own tokens and, with `topLogprobs`, their log-probabilities.
  public var echoesPrompt: Bool
  /// How many of the most probable tokens to report beside each token of the prompt, with their ranks; `nil` reports none.
  public var promptLogprobs: Int?
  /// Reports the mean of the prompt's last hidden states. Only without an answer: `maxTokens` is 0.
  public var poolsPrompt = false
  /// Whether the answer has the stop string, or the text of the token, that ends it.
  public var includesStop = false
  /// Whether the answer has the texts of special tokens.
  public var showsSpecialTokens = false
  /// Special tokens whose texts the answer has in any case.
  public var shownTokens: Set<Int32> = []
  /// How long the request may take, from its admission to its end.
  public var timeout: Duration?

  /// - Parameters: as the properties
  public init(
    maxTokens: Int, sampling: SamplingParameters, constraint: CompiledGrammar? = nil, stop: [String] = [],
    endTokens: Set<Int32> = [],
    ignoresEndOfText: Bool = false, topLogprobs: Int? = nil, echoesPrompt: Bool = false, timeout: Duration? = nil
  ) {
    self.maxTokens = maxTokens
    self.sampling = sampling
    self.constraint = constraint
    self.stop = stop
    self.endTokens = endTokens
    self.ignoresEndOfText = ignoresEndOfText
    self.topLogprobs = topLogprobs
    self.echoesPrompt = echoesPrompt
    self.timeout = timeout
  }

  /// Whether the answer has the prompt's tokens with their log-probabilities.
  var echoesLogprobs: Bool { echoesPrompt && topLogprobs != nil }
  /// Whether every position of the prompt needs its logits.
  var scoresPrompt: Bool { echoesLogprobs || promptLogprobs != nil }
  /// How many of the most probable tokens are found for each token of a prompt that is scored.
  var promptAlternatives: Int { max(promptLogprobs ?? 0, echoesLogprobs ? topLogprobs ?? 0 : 0) }
}
