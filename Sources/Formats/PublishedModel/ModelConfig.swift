/// Hyperparameters of a Llama-family decoder, whichever format they were read from.
public struct ModelConfig: Sendable, Equatable, Codable {
  public var vocabularySize: Int
  public var hiddenSize: Int
  public var intermediateSize: Int
  public var layerCount: Int
  /// Query heads; a multiple of `keyValueHeadCount` (grouped-query attention).
  public var headCount: Int
  public var keyValueHeadCount: Int
  public var headSize: Int
  /// Longest context in tokens: what the model was trained for, or its sliding window if that is shorter, since up to
  /// there a window changes nothing.
  public var contextLength: Int
  /// The sliding window, where it is what limits the context.
  public var slidingWindow: Int?
  public var rmsNormEpsilon: Float
  public var rope: RoPEParameters
  /// The output head is the embedding matrix.
  public var tiedHead: Bool
  /// Biases on q, k, v and o (`attention_bias`) and on gate, up and down (`mlp_bias`) are refused at reading.
  public var bosToken: Int32?
  public var eosTokens: [Int32]

  public var querySize: Int { headCount * headSize }
  public var keyValueSize: Int { keyValueHeadCount * headSize }

  public init(
    vocabularySize: Int, hiddenSize: Int, intermediateSize: Int, layerCount: Int, headCount: Int,
    keyValueHeadCount: Int, headSize: Int, contextLength: Int, slidingWindow: Int? = nil, rmsNormEpsilon: Float,
    rope: RoPEParameters, tiedHead: Bool, bosToken: Int32?, eosTokens: [Int32]
  ) {
    self.vocabularySize = vocabularySize
    self.hiddenSize = hiddenSize
    self.intermediateSize = intermediateSize
    self.layerCount = layerCount
    self.headCount = headCount
    self.keyValueHeadCount = keyValueHeadCount
    self.headSize = headSize
    self.contextLength = contextLength
    self.slidingWindow = slidingWindow
    self.rmsNormEpsilon = rmsNormEpsilon
    self.rope = rope
    self.tiedHead = tiedHead
    self.bosToken = bosToken
    self.eosTokens = eosTokens
  }
}

/// Rotary position embedding (Su et al., 2021) and the frequency scalings that Llama models use.
public struct RoPEParameters: Sendable, Equatable, Codable {
  public enum Scaling: Sendable, Equatable, Codable {
    case none
    /// Positions divided by `factor`.
    case linear(factor: Float)
    /// Llama 3.1's rule: long wavelengths divided by `factor`, short ones kept, a ramp between.
    case llama3(factor: Float, lowFrequencyFactor: Float, highFrequencyFactor: Float, originalContextLength: Int)
    /// A divisor for each of the `headSize / 2` frequencies (GGUF's `rope_freqs.weight`).
    case divisors([Float])
  }

  public var theta: Float
  public var scaling: Scaling

  public init(theta: Float, scaling: Scaling = .none) {
    self.theta = theta
    self.scaling = scaling
  }
}
