/// The projections of a decoder layer: its matrices, which LoRA adapts. Hugging Face calls them linear modules; the raw values
/// are its names. A layer has either the first seven or, if its matrices are fused, o, down and the last two
/// (`ModelConfig.projections`).
public enum Projection: String, CaseIterable, Sendable, Codable {
  /// Queries.
  case q = "self_attn.q_proj"
  /// Keys.
  case k = "self_attn.k_proj"
  /// Values.
  case v = "self_attn.v_proj"
  /// The output of attention.
  case o = "self_attn.o_proj"
  /// The feed-forward's gate, the input of SiLU.
  case gate = "mlp.gate_proj"
  /// The feed-forward's values, multiplied with the gate.
  case up = "mlp.up_proj"
  /// The output of the feed-forward.
  case down = "mlp.down_proj"
  /// Queries, then keys, then values.
  case queryKeyValue = "self_attn.qkv_proj"
  /// The feed-forward's gate, then its values.
  case gateUp = "mlp.gate_up_proj"

  /// The projections of a layer whose matrices are not fused, in the order of a forward pass.
  public static let separate: [Projection] = [.q, .k, .v, .o, .gate, .up, .down]

  /// The index among `allCases`.
  public var index: Int {
    switch self {
    case .q: 0
    case .k: 1
    case .v: 2
    case .o: 3
    case .gate: 4
    case .up: 5
    case .down: 6
    case .queryKeyValue: 7
    case .gateUp: 8
    }
  }

  /// Its place in the order of a forward pass, among the projections of the same model.
  public var order: Int {
    switch self {
    case .queryKeyValue: Projection.q.index
    case .gateUp: Projection.gate.index
    default: index
    }
  }

  /// "q_proj", the name PEFT's `target_modules` usually gives.
  public var shortName: String { String(rawValue.split(separator: ".")[1]) }

  /// "model.layers.3.self_attn.q_proj"
  public func fullName(layer: Int) -> String { "model.layers.\(layer).\(rawValue)" }

  /// [out_features, in_features]
  public func shape(_ config: ModelConfig) -> (output: Int, input: Int) {
    switch self {
    case .q: (config.querySize, config.hiddenSize)
    case .k, .v: (config.keyValueSize, config.hiddenSize)
    case .o: (config.hiddenSize, config.querySize)
    case .gate, .up: (config.intermediateSize, config.hiddenSize)
    case .down: (config.hiddenSize, config.intermediateSize)
    case .queryKeyValue: (config.querySize + 2 * config.keyValueSize, config.hiddenSize)
    case .gateUp: (2 * config.intermediateSize, config.hiddenSize)
    }
  }
}
