/// How the next token is drawn from the logits.
///
/// Applied in vLLM's order: bias, repetition penalty, frequency and presence penalty, temperature, min-p, top-k, top-p.
/// Where the temperature is 0 the token is the greatest of what the first three leave.
public struct SamplingParameters: Sendable, Equatable {
  /// 0 takes the most probable token.
  public var temperature: Float
  /// The smallest set of most probable tokens whose probabilities reach this sum stays (Holtzman et al., 2020).
  public var topP: Float
  /// So many of the most probable tokens stay; 0 for all.
  public var topK: Int
  /// Tokens stay whose probability is at least this share of the most probable one's (Nguyen et al., 2024).
  public var minP: Float
  /// Divides the positive logits of tokens in prompt and answer, and multiplies negative ones (Keskar et al., 2019);
  /// above 0, and 1 for none.
  public var repetitionPenalty: Float
  /// Taken from the logits of the answer's tokens, once each.
  public var presencePenalty: Float
  /// Taken from the logits of the answer's tokens, as often as each has come.
  public var frequencyPenalty: Float
  /// Added to these tokens' logits; tokens beyond the vocabulary are passed over.
  public var logitBias: [Int32: Float]
  public var seed: UInt64

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
