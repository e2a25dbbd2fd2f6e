/// Refuses a config.json with fields for computations that the layers of its class do not have.
///
/// The classes of transformers ignore most of these fields. But a file that has one describes a model
/// of another kind, whose results would be wrong without any notice.
enum HuggingFaceRefusals {
  private static let fields = [
    // Attention scores and logits.
    "attn_logit_softcapping", "final_logit_softcapping", "logit_softcapping", "query_pre_attn_scalar",
    "attn_temperature_tuning", "use_qk_norm", "qk_norm", "qk_layernorm", "use_qk_layernorm", "clip_qkv", "alibi",
    "use_alibi",
    // Attention masks.
    "attention_chunk_size", "no_rope_layers", "no_rope_layer_interval", "cross_attention_layers", "add_cross_attention",
    "is_encoder_decoder", "use_bidirectional_attention",
    // Position embeddings.
    "rope_interleaved", "rope_ratio", "rotary_dim", "use_mrope",
    // Other layers.
    "use_parallel_residual", "parallel_attn", "qkv_bias", "use_bias", "add_bias_linear", "n_routed_experts",
    // Weights in other formats.
    "compression_config", "quantization",
  ]

  /// Factors, which change nothing if they are 1.
  private static let factors = [
    "attention_multiplier", "embedding_multiplier", "residual_multiplier", "logits_scaling", "logit_scale", "scale_emb",
    "scale_depth", "rotary_pct", "num_local_experts", "num_experts", "num_experts_per_tok",
  ]

  /// The names of one function: x / (1 + exp(−x)).
  private static let silu = ["silu", "swish"]
  /// And of GELU in its approximation by tanh.
  private static let geluTanh = ["gelu_pytorch_tanh", "gelu_new", "gelu_fast"]

  /// - Throws: `ModelError` naming the field
  static func check(_ config: HuggingFaceFields, family: HuggingFaceFamily) throws {
    let isGemma = family.activationField == "hidden_activation"
    let names = isGemma ? geluTanh : silu
    // Gemma's first files have hidden_act too, which its class ignores.
    if let activation = try config.string(family.activationField), !names.contains(activation) {
      throw config.failure(family.activationField, "\(activation) is not supported, only \(names[0])")
    }
    for field in fields where !family.fields.contains(field) && !saysNothing(config.object[field]) {
      throw config.failure(field, field == "quantization" ? "MLX's quantised weights are not read" : "is not supported")
    }
    for field in factors
    where !family.fields.contains(field) && !saysNothing(config.object[field]) && config.object[field]?.double != 1 {
      throw config.failure(field, "is not supported")
    }
    for type in config.object["layer_types"]?.array ?? []
    where type.string != "full_attention" && type.string != "sliding_attention" {
      throw config.failure("layer_types", "\(type.string ?? "a value that is no string") is not supported")
    }
  }

  private static func saysNothing(_ value: JSONValue?) -> Bool {
    guard let value else { return true }
    return value.saysNothing || value.double == 0
  }
}
