import Foundation

/// config.json and generation_config.json of a Hugging Face folder, with the defaults of transformers' (5.23) classes. Fields
/// for what a model's class does not compute are refused.
struct HuggingFaceConfig {
  let model: ModelConfig
  /// The files that were read.
  let files: [URL]
  /// How the folder's weights are quantised.
  let quantization: FolderQuantization

  /// The language model is a part of the folder's model (`MultimodalNames`).
  let isMultimodal: Bool

  private static let sizeLimit = 4 << 20
  private static let subject = "config.json"

  /// - Throws: `ModelError` naming the field that is missing, wrong or not supported
  init(_ folder: URL) throws {
    let configURL = folder.appendingPathComponent(Self.subject)
    let whole = try HuggingFaceFields(configURL, limit: Self.sizeLimit)
    let wrapper = try whole.string("model_type").flatMap { HuggingFaceWrapper.all[$0] }
    let fields = try wrapper?.textFields(of: whole) ?? whole
    let type = try fields.required("model_type") { try fields.string($0) }
    guard let family = HuggingFaceFamily.all[type] else {
      throw fields.failure("model_type", "\(type) is not supported")
    }
    try HuggingFaceRefusals.check(fields, family: family)

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
    let headSize =
      try fields.integer("head_dim") ?? family.headSize ?? (hidden % heads == 0 ? hidden / heads : nil)
    guard let headSize else { throw fields.failure("hidden_size", "\(hidden) is no multiple of \(heads) heads") }
    let layers = try fields.required("num_hidden_layers") { try fields.integer($0) }
    // What follows makes lists of layers.
    guard 1...ModelConfig.layerLimit ~= layers else {
      throw fields.failure("num_hidden_layers", "\(layers) is not from 1 to \(ModelConfig.layerLimit)")
    }
    let positions = try fields.integer("max_position_embeddings") ?? family.positions
    let rope = try HuggingFaceRoPE(fields, family: family, contextLength: positions)
    var architecture = family.architecture
    architecture.biases = try Self.biases(fields, family)
    try family.read(fields, layers, hidden, &architecture)
    if rope.rotatedShare != 1 { architecture.rotarySize = Int(Double(headSize) * rope.rotatedShare) }
    let windowed = try Self.windowedLayers(fields, family, layers: layers)
    architecture.localRoPE = rope.local
    architecture.localLayers = rope.local == nil ? [] : windowed
    var window = try Self.slidingWindow(fields, family, positions: positions)
    if window != nil, windowed.isEmpty { window = nil }
    if window != nil, family.windows == .layers, windowed.count < layers { architecture.windowedLayers = windowed }
    let isAbsent = fields.object["num_key_value_heads"] == nil
    model = ModelConfig(
      vocabularySize: try fields.required("vocab_size") { try fields.integer($0) }, hiddenSize: hidden,
      intermediateSize: try fields.required("intermediate_size") { try fields.integer($0) },
      layerCount: layers, headCount: heads,
      keyValueHeadCount: try fields.integer("num_key_value_heads") ?? (isAbsent ? family.keyValueHeads : nil) ?? heads,
      headSize: headSize,
      contextLength: (family.windows == .limit ? window : nil) ?? rope.parameters.contextLength(trained: positions),
      slidingWindow: window, rmsNormEpsilon: Float(try fields.number("rms_norm_eps") ?? family.epsilon),
      rope: rope.parameters, tiedHead: try fields.bool("tie_word_embeddings") ?? family.isTied,
      bosToken: try fields.tokens("bos_token_id", default: family.bosTokens).first,
      eosTokens: try Self.eosTokens(fields, generation, family), architecture: architecture)
    try model.validate(Self.subject)
    quantization = try FolderQuantization(fields)
    isMultimodal = wrapper != nil
    self.files = files
  }

  /// Which projections have a bias.
  private static func biases(_ fields: HuggingFaceFields, _ family: HuggingFaceFamily) throws -> [Projection] {
    let attention = try fields.bool("attention_bias") ?? false
    let feedForward = try fields.bool("mlp_bias") ?? false
    var biases: [Projection] = []
    switch family.biases {
    case .queryKeyValue: biases = [.q, .k, .v]
    case .attentionField where attention, .bothFields where attention: biases = [.q, .k, .v, .o]
    case .none where attention: throw fields.failure("attention_bias", "is not supported")
    default: break
    }
    guard feedForward else { return biases }
    guard family.biases == .bothFields else { throw fields.failure("mlp_bias", "is not supported") }
    return biases + [.gate, .up, .down]
  }

  /// The layers whose kind is the one with a window.
  private static func windowedLayers(
    _ fields: HuggingFaceFields, _ family: HuggingFaceFamily, layers: Int
  ) throws -> [Int] {
    guard family.windows == .layers else { return Array(0..<layers) }
    if family.windowsAreOptional, try fields.bool("use_sliding_window") != true { return [] }
    guard let types = fields.object["layer_types"]?.array else {
      return try (0..<layers).filter { try family.defaultWindowed(fields, $0) }
    }
    guard types.count == layers else { throw fields.failure("layer_types", "\(types.count) for \(layers) layers") }
    return types.indices.filter { types[$0].string == "sliding_attention" }
  }

  /// The sliding window: how many positions attention reaches back. `nil` if that is no limit.
  private static func slidingWindow(
    _ fields: HuggingFaceFields, _ family: HuggingFaceFamily, positions: Int
  ) throws -> Int? {
    if fields.object["use_sliding_window"] == .bool(false) { return nil }
    let isAbsent = fields.object["sliding_window"] == nil
    guard let window = try fields.integer("sliding_window") ?? (isAbsent ? family.window : nil) else { return nil }
    guard window > 0 else { throw fields.failure("sliding_window", "\(window), which is not positive") }
    guard family.windows != .none else { throw fields.failure("sliding_window", "is not supported") }
    return window < positions ? window : nil
  }

  /// The end tokens of config.json, then those that generation_config.json adds.
  private static func eosTokens(
    _ fields: HuggingFaceFields, _ generation: HuggingFaceFields?, _ family: HuggingFaceFamily
  ) throws -> [Int32] {
    let added = try generation?.tokens("eos_token_id", default: []) ?? []
    var tokens: [Int32] = []
    for token in try fields.tokens("eos_token_id", default: added.isEmpty ? family.eosTokens : []) + added
    where !tokens.contains(token) { tokens.append(token) }
    return tokens
  }
}
