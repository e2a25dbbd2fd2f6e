/// A class of transformers (5.24) that puts an encoder of images before a language model. Only the language model is read:
/// its configuration is in `text_config`, and its tensors have names of their own.
struct HuggingFaceWrapper: Sendable {
  /// The `model_type` of a language model that does not say its own.
  var textType: String
  /// Whether the head is tied where the configuration does not say so.
  var isTied = false

  /// By `model_type`.
  static let all: [String: HuggingFaceWrapper] = [
    "gemma3": HuggingFaceWrapper(textType: "gemma3_text", isTied: true),
    "mistral3": HuggingFaceWrapper(textType: "mistral", isTied: true),
    "llava": HuggingFaceWrapper(textType: "llama"),
    "llava_next": HuggingFaceWrapper(textType: "llama"),
  ]

  /// The sizes of the classes of language models, which `text_config` leaves out where they are these.
  private static let sizes: [String: [(key: String, value: JSONValue)]] = [
    "gemma3_text": [
      ("vocab_size", 262_208), ("hidden_size", 2304), ("intermediate_size", 9216), ("num_hidden_layers", 26),
      ("num_attention_heads", 8),
    ],
    "mistral": [
      ("vocab_size", 32_000), ("hidden_size", 4096), ("intermediate_size", 14_336), ("num_hidden_layers", 32),
      ("num_attention_heads", 32),
    ],
    "llama": [
      ("vocab_size", 32_000), ("hidden_size", 4096), ("intermediate_size", 11_008), ("num_hidden_layers", 32),
      ("num_attention_heads", 32),
    ],
  ]

  /// The configuration of the language model, as its own class has it.
  /// - Throws: `ModelError` if there is none
  func textFields(of whole: HuggingFaceFields) throws -> HuggingFaceFields {
    guard let own = try whole.value("text_config", "an object", { $0.object }) else {
      throw whole.failure("text_config", "missing")
    }
    let file = "\(whole.file): text_config"
    let type = try HuggingFaceFields(object: own, file: file).string("model_type") ?? textType
    // The first of a key counts.
    var pairs: [(key: String, value: JSONValue)] = [("model_type", .string(type))]
    pairs.append(("tie_word_embeddings", .bool(try whole.bool("tie_word_embeddings") ?? isTied)))
    for key in ["quantization_config", "bos_token_id", "eos_token_id"] {
      if let value = whole.object[key], !value.isNull { pairs.append((key, value)) }
    }
    pairs += own.pairs.map { (key: $0.key, value: $0.value) }
    pairs += Self.sizes[type] ?? []
    return HuggingFaceFields(object: JSONObject(keepingFirst: pairs), file: file)
  }
}

/// The names of tensors and modules in classes that put an encoder of images before a language model: "model.language_model."
/// before what is in "model.", or, in files of old versions, "language_model." before everything.
package enum MultimodalNames {
  private static let text = [
    (prefix: "model.language_model.", own: "model."), (prefix: "language_model.model.", own: "model."),
    (prefix: "language_model.lm_head", own: "lm_head"),
  ]
  private static let images = ["vision_tower.", "multi_modal_projector.", "image_newline"]

  /// The name in the language model's own class; `nil` for what is only for images. Other names stay as they are.
  package static func textName(_ name: String) -> String? {
    for (prefix, own) in text where name.hasPrefix(prefix) { return own + name.dropFirst(prefix.count) }
    return images.contains { name.hasPrefix($0) || name.hasPrefix("model." + $0) } ? nil : name
  }
}
