public import Formats

/// The names that PEFT gives an adapter's tensors in adapter_model.safetensors (PEFT 0.21,
/// `get_peft_model_state_dict`).
///
/// Names are never parsed. `PEFTWeights` makes the name of every tensor that the configuration targets, and compares
/// these with the names in the file.
public enum PEFTTensorName {
  /// The tensors of one update.
  public enum Part: String, CaseIterable, Sendable {
    /// A, [rank, in_features].
    case a = "lora_A.weight"
    /// B, [out_features, rank].
    case b = "lora_B.weight"
    /// DoRA's magnitudes, [out_features].
    case magnitude = "lora_magnitude_vector"
  }

  /// Every name begins with the attributes of PEFT's wrapper and of transformers' model class.
  static let prefix = "base_model.model."

  /// "base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight"
  public static func name(_ projection: Projection, layer: Int, _ part: Part) -> String {
    "\(prefix)\(projection.fullName(layer: layer)).\(part.rawValue)"
  }
}
