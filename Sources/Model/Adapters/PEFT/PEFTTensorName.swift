public import Formats

/// The names that PEFT gives an adapter's tensors in adapter_model.safetensors (PEFT 0.21,
/// `get_peft_model_state_dict`).
///
/// Names are never parsed. `PEFTReader` makes the name of every tensor that the configuration targets, and `PEFTWeights`
/// compares these with the names in the file.
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
    name(module: projection.fullName(layer: layer), part)
  }

  /// "base_model.model.lm_head.lora_A.weight". The embedding's factors have names of their own.
  static func name(module: String, _ part: Part) -> String {
    let isEmbedding = module == PEFTConfig.Table.embedding.rawValue
    let end =
      switch part {
      case .a where isEmbedding: "lora_embedding_A"
      case .b where isEmbedding: "lora_embedding_B"
      default: part.rawValue
      }
    return "\(prefix)\(module).\(end)"
  }

  static func name(_ table: PEFTConfig.Table, _ part: Part) -> String { name(module: table.rawValue, part) }

  /// The end of the name of B's bias.
  static let biasSuffix = ".lora_B.bias"

  /// The name under which PEFT saves a tensor. Inside a model the tensor's name holds the adapter's name, "default", and the
  /// attributes of PEFT's wrappers, too. Other programs leave out the prefix. In an adapter of a model for images
  /// and texts, the names are those of the language model's own class.
  /// - Returns: `nil` for a tensor that only changes what images become
  static func saved(_ name: String) -> String? {
    var saved = name
    for part in [
      "lora_A", "lora_B", "lora_magnitude_vector", "lora_embedding_A", "lora_embedding_B", "ia3_l", "modules_to_save",
      "trainable_tokens_delta",
    ] {
      saved.replace(".\(part).default", with: ".\(part)", maxReplacements: 1)
    }
    saved.replace(".modules_to_save.", with: ".", maxReplacements: 1)
    for part in [".weight", ".bias"] where saved.hasSuffix(".base_layer" + part) {
      saved.removeLast((".base_layer" + part).count)
      saved += part
    }
    // PEFT keeps magnitudes as the weight of a module, and saves them without its name.
    if saved.hasSuffix(".lora_magnitude_vector.weight") { saved.removeLast(".weight".count) }
    if saved.hasPrefix(prefix) { saved.removeFirst(prefix.count) }
    guard let text = MultimodalNames.textName(saved) else { return nil }
    saved = text != saved || name.hasPrefix(prefix) ? prefix + text : text
    if saved.hasPrefix("model.layers.") || saved.hasPrefix("model.embed_tokens.") || saved.hasPrefix("lm_head.")
      || saved.hasPrefix("model.norm.")
    {
      saved = prefix + saved
    }
    return saved
  }
}
