/// Refuses metadata of a GGUF file that would change what the model computes and that is not supported. Unknown keys of the
/// architecture and the tokenizer are refused as well, unless their value says that they are not used.
enum GGUFRefusals {
  /// Keys after the architecture's name that `GGUFMetadata` reads, or that change nothing in a layer.
  private static let known: Set<String> = [
    "context_length", "embedding_length", "block_count", "feed_forward_length", "vocab_size", "attention.head_count",
    "attention.head_count_kv", "attention.key_length", "attention.value_length", "attention.layer_norm_rms_epsilon",
    "rope.dimension_count", "rope.freq_base", "rope.scaling.type", "rope.scaling.factor",
    "rope.scale_linear",
    "rope.scaling.original_context_length", "rope.scaling.finetuned",
    // Of layer norm, which these models do not have.
    "attention.layer_norm_epsilon",
  ]

  /// Keys that `GGUFMetadata` reads for YaRN's scaling.
  private static let yarn: Set<String> = [
    "rope.scaling.yarn_attn_factor", "rope.scaling.yarn_ext_factor", "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
  ]

  /// Keys after the architecture's name of factors, which change nothing if they are 1.
  private static let factors: Set<String> = [
    "embedding_scale", "logit_scale", "residual_scale", "attention.output_scale", "rope.scaling.attn_factor",
    "rope.scaling.yarn_attn_factor",
  ]

  /// Keys after "tokenizer.ggml." that are read, or that change nothing. The supported models do not use SentencePiece's own
  /// normalisation.
  private static let knownTokenizer: Set<String> = [
    "model", "pre", "tokens", "token_type", "token_type_count", "scores", "merges", "add_bos_token", "add_space_prefix",
    "remove_extra_whitespaces", "precompiled_charsmap",
  ]

  /// Checks all keys.
  /// - Parameters:
  ///   - name: the architecture's
  ///   - headSize: of an attention head
  ///   - scaling: what was read, which says which keys were
  /// - Throws: `ModelError` naming file and key
  static func check(
    _ file: GGUFFile, name: String, family: GGUFFamily, headSize: Int, scaling: RoPEParameters.Scaling
  ) throws {
    let read =
      switch scaling {
      case .yarn: family.keys.union(yarn)
      case .longrope: family.keys.union(["rope.scaling.attn_factor"])
      default: family.keys
      }
    let prefix = name + "."
    for (key, value) in file.metadata.sorted(by: { $0.key < $1.key }) {
      let isKnown =
        if key.hasPrefix(prefix) {
          read.contains(String(key.dropFirst(prefix.count)))
            || changesNothing(String(key.dropFirst(prefix.count)), value, headSize: headSize)
        } else if key.hasPrefix("tokenizer.ggml.") {
          isKnownOfTokenizer(String(key.dropFirst("tokenizer.ggml.".count)))
        } else {
          true
        }
      let isUnused = saysNothing(value) && key != prefix + "attention.causal"
      guard isKnown || isUnused else { throw ModelError(file.name, key, reason: "is not supported") }
    }
  }

  private static func changesNothing(_ key: String, _ value: GGUFValue, headSize: Int) -> Bool {
    switch key {
    case "attention.causal": value == .bool(true)
    case "attention.scale": number(value).map { Float($0) == 1 / Float(headSize).squareRoot() } ?? false
    // The row order of q and k that Llama's files have.
    case "tensor_data_layout": value == .string("Meta AI original pth")
    default: known.contains(key) || (factors.contains(key) && number(value) == 1)
    }
  }

  private static func isKnownOfTokenizer(_ key: String) -> Bool {
    knownTokenizer.contains(key) || key.hasSuffix("_token_id") || key.hasSuffix("_token_ids")
  }

  private static func number(_ value: GGUFValue) -> Double? {
    switch value {
    case .integer(let integer): Double(integer)
    case .float(let float): float
    default: nil
    }
  }

  private static func saysNothing(_ value: GGUFValue) -> Bool {
    switch value {
    case .integer(0), .float(0), .bool(false): true
    case .string(let text): text.isEmpty
    case .array(let array): array.count == 0
    default: false
    }
  }
}
