/// How the next token is drawn from the logits.
///
/// The parameters apply in vLLM's order: bias, repetition penalty, frequency and presence penalty, temperature, min-p,
/// top-k, top-p. At temperature 0 the token is the one whose logit is the greatest after the first three.
public struct SamplingParameters: Sendable, Equatable {
  /// Logits are divided by it; 0 always draws the most probable token.
  public var temperature: Float
  /// Only the smallest set of most probable tokens whose probabilities sum to at least this can be drawn (Holtzman et al.,
  /// 2020); 1 for all.
  public var topP: Float
  /// Only so many of the most probable tokens can be drawn; 0 for all.
  public var topK: Int
  /// Only tokens whose probability is at least this share of the most probable token's can be drawn (Nguyen et al., 2024);
  /// 0 for all.
  public var minP: Float
  /// Divides the positive logits of tokens in prompt and answer, and multiplies negative ones (Keskar et al., 2019);
  /// above 0, and 1 for none.
  public var repetitionPenalty: Float
  /// How many of the last tokens of prompt and answer `repetitionPenalty` counts; `nil` for all.
  public var repetitionWindow: Int?
  /// Subtracted from the logit of each token that the answer has.
  public var presencePenalty: Float
  /// Subtracted from the logit of each token as often as the answer has it.
  public var frequencyPenalty: Float
  /// Added to the logits of these tokens. Ids beyond the vocabulary are ignored.
  public var logitBias: [Int32: Float]
  /// How many tokens the answer has before one of `endTokens` can be drawn.
  public var minimumTokens = 0
  /// The tokens that end the answer. Only `minimumTokens` needs them.
  public var endTokens: Set<Int32> = []
  /// Sequences of tokens that the answer never has. None is empty.
  public var badWords: [[Int32]] = []
  /// The seed of the random numbers: equal seeds and logits draw equal tokens.
  public var seed: UInt64

  /// The defaults leave the model's distribution as it is.
  /// - Parameters: as the properties
  public init(
    temperature: Float = 1, topP: Float = 1, topK: Int = 0, minP: Float = 0, repetitionPenalty: Float = 1,
    presencePenalty: Float = 0, frequencyPenalty: Float = 0, logitBias: [Int32: Float] = [:], seed: UInt64
  ) {
    self.temperature = temperature
    self.topP = topP
    self.topK = topK
    self.minP = minP
    self.repetitionPenalty = repetitionPenalty
    self.presencePenalty = presencePenalty
    self.frequencyPenalty = frequencyPenalty
    self.logitBias = logitBias
    self.seed = seed
  }
}
