import Kernels

/// What the classes of transformers (5.23) compute and assume for a `model_type`: the constant parts of their architecture,
/// the fields that say more, and the values of absent fields.
struct HuggingFaceFamily: Sendable {
  /// Which projections have a bias.
  enum Biases {
    /// None.
    case none
    /// q, k and v always, the others never.
    case queryKeyValue
    /// Those of attention where `attention_bias` says so.
    case attentionField
    /// The same, and those of the feed-forward where `mlp_bias` says so.
    case bothFields
  }

  /// Which layers attend within a sliding window.
  enum Windows {
    /// None: the class has no such field.
    case none
    /// The class computes none, but the field limits its cache, and so the context.
    case limit
    /// All of them.
    case all
    /// Those that `layer_types` names, or else those of `defaultWindowed`.
    case layers
  }

  var architecture = Architecture()
  var biases = Biases.none
  var windows = Windows.none
  /// Whether windows need `use_sliding_window`.
  var windowsAreOptional = false
  /// Whether a layer has a window where there is no `layer_types`.
  /// - Parameters: the configuration and the layer
  var defaultWindowed: @Sendable (HuggingFaceFields, Int) throws -> Bool = { _, _ in true }
  /// Reads what else the configuration says of the architecture.
  /// - Parameters: the configuration, the layers and the hidden size
  var read: @Sendable (HuggingFaceFields, _ layers: Int, _ hidden: Int, inout Architecture) throws -> Void = {
    _, _, _, _ in
  }
  /// `partial_rotary_factor` is honoured.
  var rotatesPartly = false
  /// Layers with and without a window have rotary embeddings of their own.
  var hasLocalRoPE = false
  /// Fields that `read` reads, and that other classes do not have.
  var fields: Set<String> = []

  // MARK: the values of absent fields

  var activationField = "hidden_act"
  var positions = 2048
  /// `nil` for the hidden size divided by the heads.
  var headSize: Int?
  /// `original_max_position_embeddings`; `nil` for the positions.
  var originalPositions: Int?
  /// `nil` for as many as query heads.
  var keyValueHeads: Int?
  var epsilon = 1e-6
  var isTied = false
  var window: Int?
  var theta = 10_000.0
  var bosTokens: [Int32] = [1]
  var eosTokens: [Int32] = [2]

  /// By `model_type`.
  static let all: [String: HuggingFaceFamily] = [
    "llama": HuggingFaceFamily(biases: .bothFields, windows: .limit),
    "mistral": HuggingFaceFamily(windows: .all, positions: 131_072, keyValueHeads: 8, window: 4096),
    "ministral": HuggingFaceFamily(windows: .layers, positions: 131_072, keyValueHeads: 8, window: 4096),
    "qwen2": HuggingFaceFamily(
      biases: .queryKeyValue, windows: .layers, windowsAreOptional: true, defaultWindowed: isBeyondFullLayers,
      positions: 32_768, keyValueHeads: 32, window: 4096, bosTokens: [], eosTokens: []),
    "qwen3": HuggingFaceFamily(
      architecture: .with { $0.queryKeyNorm = .head }, biases: .attentionField, windows: .layers,
      windowsAreOptional: true, defaultWindowed: isBeyondFullLayers, positions: 32_768, headSize: 128,
      keyValueHeads: 32, window: 4096, bosTokens: [], eosTokens: []),
    "smollm3": HuggingFaceFamily(
      biases: .bothFields, windows: .layers, windowsAreOptional: true,
      defaultWindowed: { fields, layer in try layersWithoutRoPE(fields, through: layer).contains(layer) },
      read: { fields, layers, _, architecture in
        architecture.layersWithoutRoPE = try layersWithoutRoPE(fields, through: layers - 1)
      },
      fields: ["no_rope_layers", "no_rope_layer_interval"], positions: 32_768, keyValueHeads: 4, isTied: true,
      theta: 2_000_000, bosTokens: [128_000], eosTokens: [128_001]),
    "granite": HuggingFaceFamily(
      biases: .bothFields,
      read: { fields, _, _, architecture in
        architecture.embeddingMultiplier = Float(try fields.number("embedding_multiplier") ?? 1)
        architecture.residualMultiplier = Float(try fields.number("residual_multiplier") ?? 1)
        architecture.attentionScale = Float(try fields.number("attention_multiplier") ?? 1)
        architecture.logitMultiplier = 1 / Float(try fields.number("logits_scaling") ?? 1)
      },
      fields: ["embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling"]),
    "phi3": HuggingFaceFamily(
      architecture: .with { $0.isFused = true }, windows: .all, rotatesPartly: true, positions: 4096,
      originalPositions: 4096, epsilon: 1e-5,
      eosTokens: [32_000]),
    "olmo2": HuggingFaceFamily(
      architecture: .with {
        $0.norms = .after
        $0.queryKeyNorm = .all
      }, biases: .attentionField, epsilon: 1e-5, bosTokens: [], eosTokens: [50_279]),
    "gemma2": gemma(
      .with { $0.norms = .both }, softCaps: (attention: 50, logits: 30), positions: 8192,
      defaultWindowed: { _, layer in layer % 2 == 0 }),
    "gemma3_text": gemma(
      .with {
        $0.norms = .both
        $0.queryKeyNorm = .head
      }, softCaps: (attention: nil, logits: nil), positions: 131_072, hasLocalRoPE: true,
      defaultWindowed: { fields, layer in
        let pattern = try fields.integer("sliding_window_pattern") ?? 6
        guard pattern > 0 else { throw fields.failure("sliding_window_pattern", "\(pattern), which is not positive") }
        return (layer + 1) % pattern != 0
      }),
  ]

  private static func gemma(
    _ architecture: Architecture, softCaps: (attention: Double?, logits: Double?), positions: Int,
    hasLocalRoPE: Bool = false, defaultWindowed: @escaping @Sendable (HuggingFaceFields, Int) throws -> Bool
  ) -> HuggingFaceFamily {
    HuggingFaceFamily(
      architecture: architecture, biases: .attentionField, windows: .layers, defaultWindowed: defaultWindowed,
      read: { fields, _, hidden, architecture in
        architecture.activation = .geluTanh
        architecture.normOffset = 1
        architecture.embeddingMultiplier = Float(Double(hidden).squareRoot())
        let scalar = try fields.number("query_pre_attn_scalar") ?? 256
        guard scalar > 0 else { throw fields.failure("query_pre_attn_scalar", "\(scalar), which is not positive") }
        architecture.attentionScale = Float(1 / scalar.squareRoot())
        func cap(_ field: String, _ absent: Double?) throws -> Float? {
          (fields.object[field] == nil ? absent : try fields.number(field)).map { Float($0) }
        }
        architecture.attentionSoftCap = try cap("attn_logit_softcapping", softCaps.attention)
        architecture.logitSoftCap = try cap("final_logit_softcapping", softCaps.logits)
      },
      hasLocalRoPE: hasLocalRoPE,
      fields: ["query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping"],
      activationField: "hidden_activation", positions: positions, headSize: 256, keyValueHeads: 4, isTied: true,
      window: 4096, theta: hasLocalRoPE ? 1_000_000 : 10_000, bosTokens: [2], eosTokens: [1])
  }

  /// Qwen's rule: the layers from `max_window_layers` on.
  @Sendable private static func isBeyondFullLayers(_ fields: HuggingFaceFields, layer: Int) throws -> Bool {
    layer >= (try fields.integer("max_window_layers") ?? 28)
  }

  /// SmolLM3's rule: `no_rope_layers` has a 0 for each layer without, or else it is every fourth layer.
  private static func layersWithoutRoPE(_ fields: HuggingFaceFields, through last: Int) throws -> [Int] {
    let field = "no_rope_layers"
    if let value = fields.object[field], !value.isNull {
      guard let values = value.array, last < values.count, values.count <= ModelConfig.layerLimit else {
        throw fields.failure(field, "is not a list of a 0 or 1 for each layer")
      }
      let flags = values.map(\.integer)
      guard flags.allSatisfy({ $0 == 0 || $0 == 1 }) else {
        throw fields.failure(field, "is not a list of a 0 or 1 for each layer")
      }
      return flags.indices.filter { flags[$0] == 0 }
    }
    let interval = try fields.integer("no_rope_layer_interval") ?? 4
    guard interval > 0 else { throw fields.failure("no_rope_layer_interval", "\(interval), which is not positive") }
    return (0...max(last, 0)).filter { ($0 + 1) % interval == 0 }
  }
}
