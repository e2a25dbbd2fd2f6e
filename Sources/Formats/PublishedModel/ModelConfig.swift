/// The sizes and constants of a Llama-family decoder, whichever format they were read from.
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
  /// The maximum context in tokens: what the model was trained for.
  public var contextLength: Int
  /// The sliding window of `Architecture.windowedLayers`: how many positions, its own included, a position attends to.
  /// `nil` if it is no shorter than the context. If it equals the context, the model's file has a window that its class
  /// does not compute, and limits the context instead.
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
  /// What distinguishes the decoder from Llama's.
  public var architecture: Architecture {
    get { relative ?? Architecture() }
    set { relative = newValue == Architecture() ? nil : newValue }
  }
  /// `architecture`; `nil` for Llama's, so that its prepared files stay as they are.
  private var relative: Architecture?

  /// The outputs of the projection q.
  public var querySize: Int { headCount * headSize }
  /// The outputs of the projections k and v.
  public var keyValueSize: Int { keyValueHeadCount * headSize }

  /// - Parameters: as the properties
  public init(
    vocabularySize: Int, hiddenSize: Int, intermediateSize: Int, layerCount: Int, headCount: Int,
    keyValueHeadCount: Int, headSize: Int, contextLength: Int, slidingWindow: Int? = nil, rmsNormEpsilon: Float,
    rope: RoPEParameters, tiedHead: Bool, bosToken: Int32?, eosTokens: [Int32],
    architecture: Architecture = Architecture()
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
    self.architecture = architecture
    // Files that say the usual scale, and those that leave it out, describe the same computation.
    if architecture.attentionScale == 1 / Float(headSize).squareRoot() { self.architecture.attentionScale = nil }
  }
}

/// Rotary position embedding (Su et al., 2021) and the frequency scalings that models use.
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
    /// A larger θ for contexts beyond the original length, chosen by the context's length.
    case dynamic(factor: Float, originalContextLength: Int)
    /// YaRN (Peng et al., 2023): long wavelengths divided by `factor`, short ones kept, a ramp between the frequencies
    /// that turn `betaFast` and `betaSlow` times in the original context. Cosines and sines are multiplied by
    /// `attentionFactor`. `truncate` rounds the ramp's ends to whole frequencies.
    case yarn(
      factor: Float, attentionFactor: Float, betaFast: Float, betaSlow: Float, originalContextLength: Int,
      truncate: Bool)
    /// LongRoPE (Ding et al., 2024): a divisor for each frequency, `long` for contexts beyond the original length. Cosines
    /// and sines are multiplied by `attentionFactor`.
    case longrope(short: [Float], long: [Float], attentionFactor: Float, originalContextLength: Int)
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

  /// The maximum context of a model that was trained for so many positions: more if the scaling is for more.
  func contextLength(trained positions: Int) -> Int {
    switch scaling {
    case .dynamic(let factor, let original), .yarn(let factor, _, _, _, let original, _):
      // `validate` refuses the factors and lengths whose product is no length.
      max(positions, Int(exactly: min(Double(factor) * Double(original), Double(1 << 30)).rounded(.towardZero)) ?? 0)
    default: positions
    }
  }
}
