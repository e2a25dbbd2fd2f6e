import Foundation

/// Reads the configuration and the vocabulary from the metadata of a Llama model's GGUF file (ggml-org/ggml, docs/gguf.md;
/// defaults as in llama.cpp).
struct GGUFMetadata {
  /// The file that holds the metadata.
  private let file: GGUFFile
  private let shards: GGUFShards
  private var subject: String { file.name }

  init(_ shards: GGUFShards) {
    self.shards = shards
    file = shards.first
  }

  private func integer(_ key: String) throws -> Int? {
    guard let value = file.metadata[key] else { return nil }
    guard case .integer(let integer) = value else { throw ModelError(subject, key, reason: "not an integer") }
    return integer
  }

  private func required(_ key: String) throws -> Int {
    guard let value = try integer(key) else { throw ModelError(subject, key, reason: "missing") }
    return value
  }

  private func float(_ key: String) throws -> Float? {
    guard let value = file.metadata[key] else { return nil }
    guard case .float(let float) = value else { throw ModelError(subject, key, reason: "not a floating-point number") }
    return Float(float)
  }

  private func string(_ key: String) throws -> String? {
    guard let value = file.metadata[key] else { return nil }
    guard case .string(let string) = value else { throw ModelError(subject, key, reason: "not a string") }
    return string
  }

  private func bool(_ key: String) throws -> Bool? {
    guard let value = file.metadata[key] else { return nil }
    guard case .bool(let bool) = value else { throw ModelError(subject, key, reason: "not a boolean") }
    return bool
  }

  /// A token id; `nil` if the key is absent, and for -1 and 4294967295, which some writers put for none.
  private func token(_ key: String) throws -> Int32? {
    guard let value = try integer(key), value != -1, value != Int(UInt32.max) else { return nil }
    guard let token = Int32(exactly: value), token >= 0 else {
      throw ModelError(subject, key, reason: "\(value) is no token id")
    }
    return token
  }
}

extension GGUFMetadata {
  /// The model's configuration.
  /// - Throws: `ModelError` naming the key, for another architecture and for what is not supported
  func config(vocabulary: GGUFVocabulary) throws -> ModelConfig {
    if try string("general.type") == "adapter" || file.metadata["adapter.type"] != nil {
      throw ModelError(
        subject, reason: "is a LoRA adapter in GGUF, not a model; adapters are read as PEFT folders: convert it to one")
    }
    guard let architecture = try string("general.architecture") else {
      throw ModelError(subject, "general.architecture", reason: "missing")
    }
    guard architecture == "llama" else {
      throw ModelError(subject, "general.architecture", reason: "\(architecture) is not supported, only llama")
    }
    for key in ["llama.expert_count", "llama.expert_used_count"] {
      if let count = try integer(key), count > 0 {
        throw ModelError(subject, key, reason: "mixtures of experts are not supported")
      }
    }
    let hiddenSize = try required("llama.embedding_length")
    let headCount = try required("llama.attention.head_count")
    guard headCount > 0 else {
      throw ModelError(subject, "llama.attention.head_count", reason: "\(headCount), which is not positive")
    }
    let headSize = try integer("llama.attention.key_length") ?? hiddenSize / headCount
    for key in ["llama.attention.value_length", "llama.rope.dimension_count"] {
      if let size = try integer(key), size != headSize {
        throw ModelError(subject, key, reason: "\(size) instead of the head size, \(headSize)")
      }
    }
    if let size = try integer("llama.vocab_size"), size != vocabulary.tokens.count {
      throw ModelError(subject, "llama.vocab_size", reason: "\(size) for \(vocabulary.tokens.count) tokens")
    }
    guard let epsilon = try float("llama.attention.layer_norm_rms_epsilon") else {
      throw ModelError(subject, "llama.attention.layer_norm_rms_epsilon", reason: "missing")
    }
    let eos = ["eos", "eot", "eom"].map { "tokenizer.ggml.\($0)_token_id" }
    var eosTokens: [Int32] = []
    for token in try eos.compactMap({ try token($0) }) where !eosTokens.contains(token) { eosTokens.append(token) }
    let positions = try required("llama.context_length")
    let window = try integer("llama.attention.sliding_window").flatMap { $0 > 0 && $0 < positions ? $0 : nil }
    let config = ModelConfig(
      vocabularySize: vocabulary.tokens.count, hiddenSize: hiddenSize,
      intermediateSize: try required("llama.feed_forward_length"), layerCount: try required("llama.block_count"),
      headCount: headCount, keyValueHeadCount: try integer("llama.attention.head_count_kv") ?? headCount,
      headSize: headSize, contextLength: window ?? positions, slidingWindow: window, rmsNormEpsilon: epsilon,
      rope: RoPEParameters(theta: try float("llama.rope.freq_base") ?? 10_000, scaling: try scaling()),
      tiedHead: shards.tensors["output.weight"] == nil, bosToken: vocabulary.bosToken, eosTokens: eosTokens)
    try GGUFRefusals.check(file, headSize: headSize)
    try config.validate(subject)
    return config
  }

  private func scaling() throws -> RoPEParameters.Scaling {
    let typeKey = "llama.rope.scaling.type"
    let type = try string(typeKey) ?? "linear"
    var factor: Float = 1
    switch type {
    case "none": break
    case "linear":
      // Some writers put 0 for no factor.
      let given = try float("llama.rope.scaling.factor") ?? float("llama.rope.scale_linear") ?? 0
      factor = given == 0 ? 1 : given
    default: throw ModelError(subject, typeKey, reason: "\(type) is not supported")
    }
    guard let tensor = shards.tensors["rope_freqs.weight"] else { return factor == 1 ? .none : .linear(factor: factor) }
    guard factor == 1 else {
      throw ModelError(subject, tensor.name, reason: "together with linear scaling is not supported")
    }
    guard tensor.rows == 1, tensor.columns <= 1 << 16 else {
      throw ModelError(subject, tensor.name, reason: "shape \(tensor.shape) instead of half the head size")
    }
    let divisors = try [Float](unsafeUninitializedCapacity: tensor.columns) { buffer, initialized in
      try shards.readRows(tensor.name, rows: 0..<1, into: buffer)
      initialized = tensor.columns
    }
    return .divisors(divisors)
  }

  /// The `tokenizer.*` metadata.
  /// - Throws: `ModelError` naming the key that is missing or inconsistent
  func vocabulary() throws -> GGUFVocabulary {
    guard let model = try string("tokenizer.ggml.model") else {
      throw ModelError(subject, "tokenizer.ggml.model", reason: "missing")
    }
    guard let tokens = try file.strings("tokenizer.ggml.tokens"), !tokens.isEmpty else {
      throw ModelError(subject, "tokenizer.ggml.tokens", reason: "missing")
    }
    guard let types = try file.integers("tokenizer.ggml.token_type") else {
      throw ModelError(subject, "tokenizer.ggml.token_type", reason: "missing: special tokens would be taken for text")
    }
    let scores = try file.floats("tokenizer.ggml.scores") ?? []
    let merges = try file.strings("tokenizer.ggml.merges") ?? []
    let pre = try string("tokenizer.ggml.pre")
    if model == "gpt2" {
      guard !merges.isEmpty else { throw ModelError(subject, "tokenizer.ggml.merges", reason: "missing") }
      guard pre != nil else {
        throw ModelError(
          subject, "tokenizer.ggml.pre", reason: "missing: nothing says how text is split; convert the model again")
      }
    }
    guard types.count == tokens.count else {
      throw ModelError(subject, "tokenizer.ggml.token_type", reason: "\(types.count) for \(tokens.count) tokens")
    }
    guard scores.isEmpty || scores.count == tokens.count else {
      throw ModelError(subject, "tokenizer.ggml.scores", reason: "\(scores.count) for \(tokens.count) tokens")
    }
    func special(_ name: String) throws -> Int32? {
      let key = "tokenizer.ggml.\(name)_token_id"
      guard let token = try token(key) else { return nil }
      guard Int(token) < tokens.count else {
        throw ModelError(subject, key, reason: "\(token) is outside the vocabulary of \(tokens.count)")
      }
      return token
    }
    let preTokenizer = pre ?? "default"
    // Without the key, texts of SentencePiece's and Llama 3's models begin with the BOS token.
    let addsBOS = model == "llama" || ["llama3", "llama-v3", "llama-bpe"].contains(preTokenizer)
    return GGUFVocabulary(
      model: model, preTokenizer: preTokenizer, tokens: tokens, tokenTypes: types, scores: scores,
      merges: merges, bosToken: try special("bos"),
      eosToken: try special("eos"), unknownToken: try special("unknown"),
      addBOS: try bool("tokenizer.ggml.add_bos_token") ?? addsBOS,
      addSpacePrefix: try bool("tokenizer.ggml.add_space_prefix") ?? (model == "llama"),
      chatTemplate: try string("tokenizer.chat_template"))
  }
}
