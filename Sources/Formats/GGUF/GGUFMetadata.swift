import Foundation

/// Reads the configuration and the vocabulary from the metadata of a GGUF file (ggml-org/ggml, docs/gguf.md; defaults as in
/// llama.cpp).
struct GGUFMetadata {
  /// The file that holds the metadata.
  private let file: GGUFFile
  private let shards: GGUFShards
  private var subject: String { file.name }
  /// `general.architecture`, with which the architecture's own keys begin; empty if there is none.
  private let name: String

  init(_ shards: GGUFShards) {
    self.shards = shards
    file = shards.first
    if case .string(let name)? = file.metadata["general.architecture"] { self.name = name } else { name = "" }
  }

  /// A floating-point number under a key of the architecture; `nil` if it is absent.
  func float(_ key: String) throws -> Float? { try float(whole: full(key)) }

  /// What llama.cpp computes for the architecture; `nil` for one that is not supported.
  var family: GGUFFamily? { GGUFFamily.all[name] }

  private func full(_ key: String) -> String { "\(name).\(key)" }

  private func integer(_ key: String) throws -> Int? {
    guard let value = file.metadata[key] else { return nil }
    guard case .integer(let integer) = value else { throw ModelError(subject, key, reason: "not an integer") }
    return integer
  }

  private func required(_ key: String) throws -> Int {
    guard let value = try integer(key) else { throw ModelError(subject, key, reason: "missing") }
    return value
  }

  private func float(whole key: String) throws -> Float? {
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
    guard try string("general.architecture") != nil else {
      throw ModelError(subject, "general.architecture", reason: "missing")
    }
    guard let family else {
      throw ModelError(subject, "general.architecture", reason: "\(name) is not supported")
    }
    for key in ["expert_count", "expert_used_count"] {
      if let count = try integer(full(key)), count > 0 {
        throw ModelError(subject, full(key), reason: "mixtures of experts are not supported")
      }
    }
    let hiddenSize = try required(full("embedding_length"))
    let headCount = try required(full("attention.head_count"))
    guard headCount > 0 else {
      throw ModelError(subject, full("attention.head_count"), reason: "\(headCount), which is not positive")
    }
    let headSize = try integer(full("attention.key_length")) ?? hiddenSize / headCount
    if let size = try integer(full("attention.value_length")), size != headSize {
      throw ModelError(subject, full("attention.value_length"), reason: "\(size) instead of the head size, \(headSize)")
    }
    let rotarySize = try integer(full("rope.dimension_count")) ?? headSize
    guard rotarySize == headSize || family.rotatesPartly else {
      throw ModelError(
        subject, full("rope.dimension_count"), reason: "\(rotarySize) instead of the head size, \(headSize)")
    }
    if let size = try integer(full("vocab_size")), size != vocabulary.tokens.count {
      throw ModelError(subject, full("vocab_size"), reason: "\(size) for \(vocabulary.tokens.count) tokens")
    }
    guard let epsilon = try float("attention.layer_norm_rms_epsilon") else {
      throw ModelError(subject, full("attention.layer_norm_rms_epsilon"), reason: "missing")
    }
    let eos = ["eos", "eot", "eom"].map { "tokenizer.ggml.\($0)_token_id" }
    var eosTokens: [Int32] = []
    for token in try eos.compactMap({ try token($0) }) where !eosTokens.contains(token) { eosTokens.append(token) }
    let layerCount = try required(full("block_count"))
    // What follows makes lists of layers.
    guard 1...ModelConfig.layerLimit ~= layerCount else {
      throw ModelError(
        subject, full("block_count"), reason: "\(layerCount) is not from 1 to \(ModelConfig.layerLimit)")
    }
    let rope = RoPEParameters(theta: try float("rope.freq_base") ?? 10_000, scaling: try scaling())
    var architecture = family.architecture
    architecture.biases = biases(family, layers: layerCount)
    if rotarySize != headSize { architecture.rotarySize = rotarySize }
    try family.read(
      self, GGUFFamily.Sizes(layers: layerCount, hidden: hiddenSize, heads: headCount, headSize: headSize),
      &architecture)
    let positions = try required(full("context_length"))
    let window = try windows(family, layers: layerCount, positions: positions, &architecture)
    let config = ModelConfig(
      vocabularySize: vocabulary.tokens.count, hiddenSize: hiddenSize,
      intermediateSize: try required(full("feed_forward_length")), layerCount: layerCount,
      headCount: headCount, keyValueHeadCount: try integer(full("attention.head_count_kv")) ?? headCount,
      headSize: headSize, contextLength: rope.contextLength(trained: positions), slidingWindow: window,
      rmsNormEpsilon: epsilon, rope: rope,
      tiedHead: shards.tensors["output.weight"] == nil, bosToken: vocabulary.bosToken, eosTokens: eosTokens,
      architecture: architecture)
    try GGUFRefusals.check(file, name: name, family: family, headSize: headSize, scaling: rope.scaling)
    try config.validate(subject)
    return config
  }

  /// The projections that have a bias in every layer.
  private func biases(_ family: GGUFFamily, layers: Int) -> [Projection] {
    family.architecture.projections.filter { projection in
      (0..<layers).allSatisfy { layer in
        shards.tensors[GGUFNames.fileName(of: projection.fullName(layer: layer) + ".bias")] != nil
      }
    }
  }

  /// Reads the sliding window, and which layers have it and a rotary embedding of their own.
  /// - Returns: the window; `nil` if it is no limit
  private func windows(
    _ family: GGUFFamily, layers: Int, positions: Int, _ architecture: inout Architecture
  ) throws -> Int? {
    let given =
      family.keys.contains("attention.sliding_window") ? try integer(full("attention.sliding_window")) : nil
    guard let window = given ?? family.window, window > 0 else { return nil }
    if let windowed = try windowedLayers(family, layers: layers) {
      if window < positions { architecture.windowedLayers = windowed }
      if let theta = family.localTheta {
        architecture.localRoPE = RoPEParameters(theta: try float("rope.freq_base_swa") ?? theta)
        architecture.localLayers = windowed
      }
    }
    return window < positions && architecture.windowedLayers?.isEmpty != true ? window : nil
  }

  /// The layers with a window: those whose element of an array is true, or all but the last of so many. `nil` if the
  /// family has no such rule.
  private func windowedLayers(_ family: GGUFFamily, layers: Int) throws -> [Int]? {
    let key = full("attention.sliding_window_pattern")
    if case .array? = file.metadata[key] {
      guard let flags = try file.booleans(key), flags.count == layers else {
        throw ModelError(subject, key, reason: "not a boolean for each of \(layers) layers")
      }
      return flags.indices.filter { flags[$0] }
    }
    guard let pattern = try integer(key) ?? family.windowPattern else { return nil }
    guard pattern > 0 else { throw ModelError(subject, key, reason: "\(pattern) for \(layers) layers") }
    return (0..<layers).filter { $0 % pattern < pattern - 1 }
  }

  private func scaling() throws -> RoPEParameters.Scaling {
    let typeKey = full("rope.scaling.type")
    let type = try string(typeKey) ?? "linear"
    if shards.tensors[Self.longFactors] != nil || shards.tensors[Self.shortFactors] != nil { return try longrope() }
    var factor: Float = 1
    switch type {
    case "none": break
    case "linear":
      // Some writers put 0 for no factor.
      let given = try float("rope.scaling.factor") ?? float("rope.scale_linear") ?? 0
      factor = given == 0 ? 1 : given
    case "yarn": return try yarn(typeKey)
    default: throw ModelError(subject, typeKey, reason: "\(type) is not supported")
    }
    guard let tensor = shards.tensors["rope_freqs.weight"] else { return factor == 1 ? .none : .linear(factor: factor) }
    guard factor == 1 else {
      throw ModelError(subject, tensor.name, reason: "together with linear scaling is not supported")
    }
    return .divisors(try divisors(tensor.name))
  }

  private func yarn(_ typeKey: String) throws -> RoPEParameters.Scaling {
    guard let factor = try float("rope.scaling.factor"), factor > 0 else {
      throw ModelError(subject, typeKey, reason: "yarn needs \(full("rope.scaling.factor"))")
    }
    guard shards.tensors["rope_freqs.weight"] == nil else {
      throw ModelError(subject, "rope_freqs.weight", reason: "together with yarn is not supported")
    }
    if let share = try float("rope.scaling.yarn_ext_factor"), share != 1 {
      throw ModelError(subject, full("rope.scaling.yarn_ext_factor"), reason: "\(share) is not supported")
    }
    let inferred = factor <= 1 ? 1 : 0.1 * log(Double(factor)) + 1
    return .yarn(
      factor: factor, attentionFactor: try float("rope.scaling.yarn_attn_factor") ?? Float(inferred),
      betaFast: try float("rope.scaling.yarn_beta_fast") ?? 32,
      betaSlow: try float("rope.scaling.yarn_beta_slow") ?? 1,
      originalContextLength: try integer(full("rope.scaling.original_context_length"))
        ?? required(full("context_length")), truncate: true)
  }

  private static let longFactors = "rope_factors_long.weight"
  private static let shortFactors = "rope_factors_short.weight"

  private func longrope() throws -> RoPEParameters.Scaling {
    for (name, other) in [(Self.longFactors, Self.shortFactors), (Self.shortFactors, Self.longFactors)]
    where shards.tensors[other] == nil {
      throw ModelError(subject, name, reason: "needs \(other), which is missing")
    }
    guard shards.tensors["rope_freqs.weight"] == nil else {
      throw ModelError(subject, "rope_freqs.weight", reason: "together with \(Self.longFactors) is not supported")
    }
    return .longrope(
      short: try divisors(Self.shortFactors), long: try divisors(Self.longFactors),
      attentionFactor: try float("rope.scaling.attn_factor") ?? 1,
      originalContextLength: try required(full("rope.scaling.original_context_length")))
  }

  /// A tensor with a number for each frequency.
  private func divisors(_ name: String) throws -> [Float] {
    guard let tensor = shards.tensors[name], tensor.rows == 1, tensor.columns <= 1 << 16 else {
      let shape = shards.tensors[name]?.shape ?? []
      throw ModelError(subject, name, reason: "shape \(shape) instead of half the head size")
    }
    return try [Float](unsafeUninitializedCapacity: tensor.columns) { buffer, initialized in
      try shards.readRows(name, rows: 0..<1, into: buffer)
      initialized = tensor.columns
    }
  }

  /// The values of `tokenizer.ggml.pre` of models whose texts begin with the BOS token (llama.cpp's llama-vocab.cpp).
  private static let addsBOS = [
    "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "tekken", "chameleon",
  ]

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
    if model == "gpt2" || model == "gemma4" {
      guard !merges.isEmpty else { throw ModelError(subject, "tokenizer.ggml.merges", reason: "missing") }
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
    let preTokenizer = try string("tokenizer.ggml.pre") ?? ""
    // Without the key. Gemma 4's files have a wrong one.
    let addsBOS = model == "llama" || (model == "gpt2" && Self.addsBOS.contains(preTokenizer))
    return GGUFVocabulary(
      model: model, preTokenizer: preTokenizer, tokens: tokens, tokenTypes: types, scores: scores,
      merges: merges, bosToken: try special("bos"),
      eosToken: try special("eos"), unknownToken: try special("unknown"),
      addBOS: try model == "gemma4" || bool("tokenizer.ggml.add_bos_token") ?? addsBOS,
      addSpacePrefix: try bool("tokenizer.ggml.add_space_prefix") ?? (model == "llama"),
      chatTemplate: try string("tokenizer.chat_template"),
      precompiledCharsmap: try file.bytes("tokenizer.ggml.precompiled_charsmap") ?? [],
      removesExtraSpaces: try bool("tokenizer.ggml.remove_extra_whitespaces") ?? false)
  }
}
