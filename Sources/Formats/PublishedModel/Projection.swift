/// The seven projections of a Llama decoder layer: its matrices, which LoRA adapts. Hugging Face calls them linear modules;
/// the raw values are its names.
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
    }
  }
}
