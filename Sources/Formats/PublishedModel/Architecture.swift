public import Kernels

/// What distinguishes a decoder from Llama's. The default is Llama's; every relative differs by some of these values, and the
/// computation reads them without knowing the model's name.
public struct Architecture: Sendable, Equatable, Codable {
  /// Where a layer has its norms.
  public enum NormPlacement: String, Sendable, Codable {
    /// Before attention and before the feed-forward.
    case before
    /// After both, on what is added to the residual stream.
    case after
    /// Before and after both.
    case both
  }

  /// The norms of queries and keys, which come before the rotary embedding.
  public enum QueryKeyNorm: String, Sendable, Codable {
    /// None.
    case none
    /// One of each head, with the same weights for all heads.
    case head
    /// One of all heads together.
    case all
  }

  /// q, k and v are one matrix, and so are gate and up.
  public var isFused = false
  /// The projections that have a bias, in the order of `Projection.allCases`.
  public var biases: [Projection] = []
  /// Where the norms of a layer are.
  public var norms = NormPlacement.before
  /// The norms of queries and keys.
  public var queryKeyNorm = QueryKeyNorm.none
  /// What is added to the weights of norms as Hugging Face's folders and PEFT's adapters have them; `nil` for nothing. The
  /// base has the sums.
  public var normOffset: Float?
  /// The function of the feed-forward's gate.
  public var activation = GateActivation.silu
  /// The factor on the embedding.
  public var embeddingMultiplier: Float = 1
  /// The factor on what attention and the feed-forward add to the residual stream.
  public var residualMultiplier: Float = 1
  /// The factor on attention scores; `nil` for 1 / √(head size).
  public var attentionScale: Float?
  /// The factor on logits.
  public var logitMultiplier: Float = 1
  /// Attention scores s become cap · tanh(s / cap).
  public var attentionSoftCap: Float?
  /// Logits z become cap · tanh(z / cap), after `logitMultiplier`.
  public var logitSoftCap: Float?
  /// The first elements of a head that the rotary embedding rotates; `nil` for all.
  public var rotarySize: Int?
  /// The layers without a rotary embedding.
  public var layersWithoutRoPE: [Int] = []
  /// The layers that attend within the sliding window; `nil` for all of them.
  public var windowedLayers: [Int]?
  /// The rotary embedding of `localLayers`.
  public var localRoPE: RoPEParameters?
  /// The layers with the rotary embedding `localRoPE`.
  public var localLayers: [Int] = []

  /// Llama's.
  public init() {}

  /// Llama's with some changes.
  static func with(_ change: (inout Architecture) -> Void) -> Architecture {
    var architecture = Architecture()
    change(&architecture)
    return architecture
  }
}

/// The norms of a decoder layer.
public enum LayerNorm: CaseIterable, Sendable {
  /// Of the input of attention, and of its output before it is added to the residual stream.
  case attentionInput, attentionOutput
  /// Of the input of the feed-forward, and of its output before it is added to the residual stream.
  case feedForwardInput, feedForwardOutput
  /// Of queries and of keys.
  case queries, keys
}

extension Architecture {
  /// The projections of a layer, in the order of a forward pass.
  public var projections: [Projection] { isFused ? [.queryKeyValue, .o, .gateUp, .down] : Projection.separate }

  /// Whether logits are not what the output head gives.
  public var changesLogits: Bool { logitMultiplier != 1 || logitSoftCap != nil }

  /// Hugging Face's name of a norm within its layer, "input_layernorm"; `nil` if the layers do not have it.
  public func name(of norm: LayerNorm) -> String? {
    switch norm {
    case .attentionInput: norms == .after ? nil : "input_layernorm"
    case .attentionOutput: norms == .before ? nil : "post_attention_layernorm"
    case .feedForwardInput:
      switch norms {
      case .before: "post_attention_layernorm"
      case .both: "pre_feedforward_layernorm"
      case .after: nil
      }
    case .feedForwardOutput: norms == .before ? nil : "post_feedforward_layernorm"
    case .queries: queryKeyNorm == .none ? nil : "self_attn.q_norm"
    case .keys: queryKeyNorm == .none ? nil : "self_attn.k_norm"
    }
  }
}

extension ModelConfig {
  /// The projections of a layer, in the order of a forward pass.
  public var projections: [Projection] { architecture.projections }

  /// The factor on attention scores.
  public var attentionScale: Float { architecture.attentionScale ?? 1 / Float(headSize).squareRoot() }

  /// Elements of a head that the rotary embedding rotates.
  public var rotarySize: Int { architecture.rotarySize ?? headSize }

  /// The weights of a norm.
  public func size(of norm: LayerNorm) -> Int {
    switch norm {
    case .queries: architecture.queryKeyNorm == .all ? querySize : headSize
    case .keys: architecture.queryKeyNorm == .all ? keyValueSize : headSize
    default: hiddenSize
    }
  }

  /// How many positions, its own included, a position of a layer attends to; `nil` for all earlier ones.
  public func window(layer: Int) -> Int? {
    guard let slidingWindow, architecture.windowedLayers?.contains(layer) != false else { return nil }
    return slidingWindow
  }

  /// The rotary embedding of a layer; `nil` if it has none.
  public func rope(layer: Int) -> RoPEParameters? {
    if architecture.layersWithoutRoPE.contains(layer) { return nil }
    return architecture.localLayers.contains(layer) ? architecture.localRoPE ?? rope : rope
  }

  /// The longest context with the frequencies that transformers uses for short texts. Some scalings change all frequencies
  /// for longer contexts.
  public var plainContextLength: Int {
    switch rope.scaling {
    case .dynamic(_, let original), .longrope(_, _, _, let original): min(contextLength, original)
    default: contextLength
    }
  }

  /// "model.layers.3.input_layernorm.weight"; `nil` if the layers do not have the norm.
  public func name(of norm: LayerNorm, layer: Int) -> String? {
    architecture.name(of: norm).map { "model.layers.\(layer).\($0).weight" }
  }
}
