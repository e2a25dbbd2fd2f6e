/// The sizes and constants of a Llama-family decoder, whichever format they were read from. No such decoder has biases:
/// a file that says otherwise (`attention_bias`, `mlp_bias`) is refused when it is read.
public struct ModelConfig: Sendable, Equatable, Codable {
  /// Token ids are below this.
  public var vocabularySize: Int
  /// The width of the residual stream.
  public var hiddenSize: Int
  /// The width of the feed-forward's inside.
  public var intermediateSize: Int
  /// Decoder layers.
  public var layerCount: Int
  /// Query heads; a multiple of `keyValueHeadCount` (grouped-query attention).
  public var headCount: Int
  /// Key and value heads, each shared by `headCount / keyValueHeadCount` query heads.
  public var keyValueHeadCount: Int
  /// The width of a head, even.
  public var headSize: Int
  /// The maximum context in tokens: what the model was trained for, or its sliding window if that is shorter. Up to its own
  /// size a sliding window changes nothing.
  public var contextLength: Int
  /// The sliding window in tokens, if it limits the context; else `nil`.
  public var slidingWindow: Int?
  /// Added to the mean square in RMS norm (Zhang and Sennrich, 2019).
  public var rmsNormEpsilon: Float
  /// The parameters of the rotary position embedding.
  public var rope: RoPEParameters
  /// The output head is the embedding matrix.
  public var tiedHead: Bool
  /// Begins a text; `nil` if the model has no such token.
  public var bosToken: Int32?
  /// Any of these ends a text.
  public var eosTokens: [Int32]

  /// The outputs of the projection q.
  public var querySize: Int { headCount * headSize }
  /// The outputs of the projections k and v.
  public var keyValueSize: Int { keyValueHeadCount * headSize }

  /// - Parameters: as the properties
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
  /// How the frequencies are scaled for a longer context.
  public enum Scaling: Sendable, Equatable, Codable {
    /// No scaling.
    case none
    /// Positions divided by `factor`.
    case linear(factor: Float)
    /// Llama 3.1's rule: long wavelengths divided by `factor`, short ones kept, a ramp between.
    case llama3(factor: Float, lowFrequencyFactor: Float, highFrequencyFactor: Float, originalContextLength: Int)
    /// A divisor for each of the `headSize / 2` frequencies (GGUF's `rope_freqs.weight`).
    case divisors([Float])
  }

  /// The base of the frequencies: frequency i is θ^(−2i / headSize).
  public var theta: Float
  /// How the frequencies are scaled.
  public var scaling: Scaling

  /// - Parameters: as the properties
  public init(theta: Float, scaling: Scaling = .none) {
    self.theta = theta
    self.scaling = scaling
  }
}
