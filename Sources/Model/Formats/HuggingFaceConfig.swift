import Foundation

/// config.json and generation_config.json of a Hugging Face folder, as transformers (5.23) reads them for `LlamaConfig`
/// and `MistralConfig`: the same defaults, and refusals by name for what a plain Llama layer does not compute.
struct HuggingFaceConfig {
  let model: ModelConfig
  /// The files read.
  let files: [URL]
  /// Linear weights may be bitsandbytes NF4.
  let isNF4: Bool

  private static let sizeLimit = 4 << 20
  private static let subject = "config.json"

  /// Throws `ModelError` naming the field.
  init(_ folder: URL) throws {
    let configURL = folder.appendingPathComponent(Self.subject)
    let fields = try HuggingFaceFields(configURL, limit: Self.sizeLimit)
    let type = try fields.required("model_type") { try fields.string($0) }
    guard type == "llama" || type == "mistral" else { throw fields.failure("model_type", "\(type) is not supported") }
    try Self.checkArchitecture(fields, isMistral: type == "mistral")

    var files = [configURL]
    var generation: HuggingFaceFields?
    let generationURL = folder.appendingPathComponent("generation_config.json")
    if FileManager.default.fileExists(atPath: generationURL.path) {
      generation = try HuggingFaceFields(generationURL, limit: Self.sizeLimit)
      files.append(generationURL)
    }
    let heads = try fields.required("num_attention_heads") { try fields.integer($0) }
    let hidden = try fields.required("hidden_size") { try fields.integer($0) }
    guard heads > 0 else { throw fields.failure("num_attention_heads", "\(heads), which is not positive") }
    let headSize = try fields.integer("head_dim") ?? (hidden % heads == 0 ? hidden / heads : nil)
    guard let headSize else { throw fields.failure("hidden_size", "\(hidden) is no multiple of \(heads) heads") }
    let context = try fields.integer("max_position_embeddings") ?? (type == "mistral" ? 131_072 : 2048)
    let isAbsent = fields.object["num_key_value_heads"] == nil
    model = ModelConfig(
      vocabularySize: try fields.required("vocab_size") { try fields.integer($0) }, hiddenSize: hidden,
      intermediateSize: try fields.required("intermediate_size") { try fields.integer($0) },
      layerCount: try fields.required("num_hidden_layers") { try fields.integer($0) }, headCount: heads,
      keyValueHeadCount: try fields.integer("num_key_value_heads") ?? (type == "mistral" && isAbsent ? 8 : heads),
      headSize: headSize, contextLength: context,
      rmsNormEpsilon: Float(try fields.number("rms_norm_eps") ?? 1e-6),
      rope: try HuggingFaceRoPE.parameters(fields, contextLength: context),
      tiedHead: try fields.bool("tie_word_embeddings") ?? false,
      bosToken: try fields.tokens("bos_token_id", default: [1]).first,
      eosTokens: try Self.eosTokens(fields, generation))
    try model.validate(Self.subject)
    isNF4 = try Self.quantization(fields)
    self.files = files
  }

  private static func checkArchitecture(_ fields: HuggingFaceFields, isMistral: Bool) throws {
    if let activation = try fields.string("hidden_act"), activation != "silu" {
      throw fields.failure("hidden_act", "\(activation) is not supported, only silu")
    }
    for field in ["attention_bias", "mlp_bias"] where try fields.bool(field) == true {
      throw fields.failure(field, "is not supported")
    }
    guard isMistral else { return }
    // A window that no position leaves is none; without the field transformers takes 4096.
    let isAbsent = fields.object["sliding_window"] == nil
    let window = try fields.integer("sliding_window") ?? (isAbsent ? 4096 : nil)
    if let window, try window < fields.integer("max_position_embeddings") ?? 131_072 {
      throw fields.failure("sliding_window", "\(window) is not supported, only null")
    }
  }

  /// Those of config.json, then those that generation_config.json adds.
  private static func eosTokens(_ fields: HuggingFaceFields, _ generation: HuggingFaceFields?) throws -> [Int32] {
    let added = try generation?.tokens("eos_token_id", default: []) ?? []
    var tokens: [Int32] = []
    for token in try fields.tokens("eos_token_id", default: added.isEmpty ? [2] : []) + added
    where !tokens.contains(token) { tokens.append(token) }
    return tokens
  }

  /// Whether the folder says that it is quantised by bitsandbytes to NF4. Throws for every other quantisation.
  private static func quantization(_ fields: HuggingFaceFields) throws -> Bool {
    guard let value = fields.object["quantization_config"], !value.isNull else { return false }
    let key = "quantization_config"
    guard let object = value.object else { throw fields.failure(key, "is not an object") }
    let nested = HuggingFaceFields(object: object, file: "\(Self.subject): \(key)")
    let is4Bit = try nested.bool("load_in_4bit") ?? nested.bool("_load_in_4bit") ?? false
    let is8Bit = try nested.bool("load_in_8bit") ?? nested.bool("_load_in_8bit") ?? false
    // Early transformers wrote no quant_method for bitsandbytes.
    let method = try nested.string("quant_method") ?? (is4Bit || is8Bit ? "bitsandbytes" : "none")
    guard method == "bitsandbytes" else {
      throw nested.failure("quant_method", "\(method) is not supported, only bitsandbytes")
    }
    guard is4Bit, !is8Bit else { throw nested.failure("load_in_8bit", "is not supported, only load_in_4bit") }
    let type = try nested.string("bnb_4bit_quant_type") ?? "fp4"
    guard type == "nf4" else { throw nested.failure("bnb_4bit_quant_type", "\(type) is not supported, only nf4") }
    return true
  }
}

/// Typed access to the fields of a configuration; null is the same as absent.
struct HuggingFaceFields {
  let object: JSONObject
  let file: String

  init(object: JSONObject, file: String) {
    self.object = object
    self.file = file
  }

  init(_ url: URL, limit: Int) throws {
    try self.init(MappedFile.contents(of: url, limit: limit), file: url.lastPathComponent)
  }

  init(_ text: some Collection<UInt8>, file: String) throws {
    guard let object = try JSONValue.parse(text, subject: file, valueLimit: 200_000).object else {
      throw ModelError(file, reason: "not a JSON object")
    }
    self.init(object: object, file: file)
  }

  func failure(_ key: String, _ reason: String) -> ModelError { ModelError(file, key, reason: reason) }

  func value<T>(_ key: String, _ kind: String, _ read: (JSONValue) -> T?) throws -> T? {
    guard let value = object[key], !value.isNull else { return nil }
    guard let result = read(value) else { throw failure(key, "is not \(kind)") }
    return result
  }

  func string(_ key: String) throws -> String? { try value(key, "a string") { $0.string } }
  func bool(_ key: String) throws -> Bool? { try value(key, "a boolean") { $0.bool } }
  func integer(_ key: String) throws -> Int? { try value(key, "an integer") { $0.integer } }
  func number(_ key: String) throws -> Double? { try value(key, "a number") { $0.double } }

  func required<T>(_ key: String, _ read: (String) throws -> T?) throws -> T {
    guard let value = try read(key) else { throw failure(key, "missing") }
    return value
  }

  /// A token id or a list of them; `default` if the key is absent, none if it is null.
  func tokens(_ key: String, default: [Int32]) throws -> [Int32] {
    guard let value = object[key] else { return `default` }
    if value.isNull { return [] }
    let values = value.array ?? [value]
    let tokens = values.compactMap { $0.integer.flatMap { Int32(exactly: $0) } }
    guard tokens.count == values.count, tokens.count <= 1024 else {
      throw failure(key, "is neither a token id nor a list of them")
    }
    return tokens
  }
}

/// Rotary embedding parameters in both spellings: `rope_theta` with `rope_scaling`, and `rope_parameters`.
private enum HuggingFaceRoPE {
  private static let defaultTheta = 10_000.0

  static func parameters(_ fields: HuggingFaceFields, contextLength: Int) throws -> RoPEParameters {
    let outerTheta = try fields.number("rope_theta")
    if let factor = try fields.number("partial_rotary_factor"), factor != 1 {
      throw fields.failure("partial_rotary_factor", "\(factor) is not supported")
    }
    // As in transformers, rope_scaling goes first where both are there.
    let key = ["rope_scaling", "rope_parameters"].first { fields.object[$0]?.isNull == false }
    guard let key else { return RoPEParameters(theta: Float(outerTheta ?? defaultTheta)) }
    guard let object = fields.object[key]?.object else { throw fields.failure(key, "is not an object") }
    let rope = HuggingFaceFields(object: object, file: "\(fields.file): \(key)")
    let theta = Float(try rope.number("rope_theta") ?? outerTheta ?? defaultTheta)
    let type = try rope.string("rope_type") ?? rope.string("type") ?? "default"
    var known: Set<String> = ["rope_type", "type", "rope_theta"]
    let scaling: RoPEParameters.Scaling
    switch type {
    case "default": scaling = .none
    case "linear":
      known.insert("factor")
      scaling = .linear(factor: Float(try rope.required("factor") { try rope.number($0) }))
    case "llama3":
      known.formUnion(["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"])
      scaling = .llama3(
        factor: Float(try rope.required("factor") { try rope.number($0) }),
        lowFrequencyFactor: Float(try rope.required("low_freq_factor") { try rope.number($0) }),
        highFrequencyFactor: Float(try rope.required("high_freq_factor") { try rope.number($0) }),
        originalContextLength: try fields.integer("original_max_position_embeddings")
          ?? rope.integer("original_max_position_embeddings") ?? contextLength)
    default: throw rope.failure("rope_type", "\(type) is not supported")
    }
    for (key, value) in object.pairs where !known.contains(key) && !value.isNull {
      if key == "partial_rotary_factor", value.double == 1 { continue }
      // A default type ignores what a scaled one would need.
      if type == "default", ["factor", "original_max_position_embeddings"].contains(key) { continue }
      throw rope.failure(key, "is not supported")
    }
    return RoPEParameters(theta: theta, scaling: scaling)
  }
}
