import Formats

/// Which parts of an adapter a reader is for.
enum PEFTScope {
  /// LoRA's factors of projections, with DoRA's magnitudes: what training continues from.
  case factors
  /// Everything that can be served and exported.
  case all

  /// Why a part is refused that is beyond the scope.
  static let servedOnly = "can be served, but not trained further"
}

/// An adapter_config.json (PEFT 0.21, `LoraConfig` or `IA3Config`).
///
/// Every field of the file is either honoured, or has no effect on what the adapter computes, or is refused by name.
struct PEFTConfig {
  /// The value of `target_modules` or `exclude_modules`.
  enum Targets: Equatable {
    /// Full names, or ends of names after a dot.
    case names([String])
    /// A regular expression for the whole name.
    case pattern(String)
    /// "all-linear": every projection.
    case allLinear
  }

  /// Methods of PEFT by their `peft_type`.
  enum Method: String {
    case lora = "LORA"
    case ia3 = "IA3"
  }

  let file: String
  let method: Method
  let rank: Int
  let alpha: Double
  let usesRSLoRA: Bool
  let usesDoRA: Bool
  /// B has a bias, which is scaled as B is.
  let usesLoRABias: Bool
  let targets: Targets
  let excluded: Targets
  /// `layers_to_transform`; `nil` for all layers.
  let layers: Set<Int>?
  let layerPatterns: [String]
  /// In the file's order: the first key that matches a module's name decides.
  let rankPattern: [(key: String, value: Int)]
  let alphaPattern: [(key: String, value: Double)]
  let baseModel: String?
  /// `modules_to_save`: ends of modules' names.
  let savedModules: [String]
  /// `trainable_token_indices`: tokens with rows of their own, by the end of the module's name.
  let tokens: [(module: String, ids: [Int])]
  /// `ensure_weight_tying`
  let tiesWeights: Bool
  /// IA3's `feedforward_modules`, whose inputs are scaled.
  let feedForward: Targets

  /// The modules with a row for each token.
  enum Table: String, CaseIterable {
    case embedding = "model.embed_tokens"
    case head = "lm_head"
  }

  /// The highest rank of LoRA that is only served. Sums of adapters need more than one adapter does: their ranks add up.
  static let maximumServedRank = 4096
  private static let patternLimit = 1024

  /// Fields that do not change what a trained adapter computes, or only together with a field that is refused.
  private static let ignoredFields: Set<String> = [
    "auto_mapping", "inference_mode", "lora_dropout", "megatron_core", "peft_version", "qalora_group_size", "revision",
    "runtime_config", "task_type",
    // How training begins. `init_lora_weights` says whether that changes the base.
    "corda_config", "eva_config", "loftq_config", "lora_ga_config",
  ]

  private static let honouredFields: Set<String> = [
    "alpha_pattern", "base_model_name_or_path", "bias", "ensure_weight_tying", "exclude_modules", "fan_in_fan_out",
    "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha", "lora_bias", "modules_to_save",
    "peft_type", "r", "rank_pattern", "target_modules", "trainable_token_indices", "use_dora", "use_rslora",
  ]

  private static let ia3Fields: Set<String> = [
    "base_model_name_or_path", "exclude_modules", "fan_in_fan_out", "feedforward_modules", "init_ia3_weights",
    "modules_to_save", "peft_type", "target_modules",
  ]

  /// Initialisations that leave the base as it is.
  private static let initializations: Set<String> = ["eva", "gaussian", "orthogonal"]

  /// - Throws: `ModelError` naming the field that is wrong, not supported, or beyond the scope
  init(_ text: [UInt8], file: String, scope: PEFTScope) throws {
    let fields = try HuggingFaceFields(text, file: file)
    if fields.object["peft_type"] == nil, fields.isFromMLX {
      throw ModelError(
        file, reason: "is of an MLX-LM adapter, which can only be read together with its base")
    }
    guard let type = try fields.string("peft_type") else { throw ModelError(file, "peft_type", reason: "missing") }
    guard let method = Method(rawValue: type.uppercased()), method == .lora || scope == .all else {
      throw ModelError(
        file, "peft_type", reason: "\(type) is not supported, only LORA" + (scope == .all ? " and IA3" : ""))
    }
    let honoured = method == .lora ? Self.honouredFields : Self.ia3Fields
    for (key, value) in fields.object.pairs where !Self.ignoredFields.contains(key) && !honoured.contains(key) {
      guard value.saysNothing else {
        throw ModelError(file, key, reason: "is not supported")
      }
    }
    try Self.checkFixedFields(fields)

    self.file = file
    self.method = method
    savedModules = try fields.strings("modules_to_save")
    tokens = try fields.tokenIndices("trainable_token_indices")
    tiesWeights = try fields.bool("ensure_weight_tying") ?? false
    usesLoRABias = try fields.bool("lora_bias") ?? false
    // PEFT's default for Llama.
    feedForward = try fields.targets("feedforward_modules") ?? .names(["down_proj"])
    rank = try fields.integer("r") ?? 8
    alpha = try fields.number("lora_alpha") ?? 8
    usesRSLoRA = try fields.bool("use_rslora") ?? false
    usesDoRA = try fields.bool("use_dora") ?? false
    baseModel = try fields.string("base_model_name_or_path")
    // PEFT's default for Llama.
    targets =
      try fields.targets("target_modules")
      ?? .names(method == .lora ? ["q_proj", "v_proj"] : ["k_proj", "v_proj", "down_proj"])
    excluded = try fields.targets("exclude_modules") ?? .names([])
    layers = try fields.layers("layers_to_transform")
    layerPatterns = try fields.strings("layers_pattern")
    rankPattern = try fields.pattern("rank_pattern", limit: Self.patternLimit) { $0.integer }
    alphaPattern = try fields.pattern("alpha_pattern", limit: Self.patternLimit) { $0.double }
    let isServedOnly = scope == .all && !usesDoRA
    try checkCombination(maximumRank: isServedOnly ? Self.maximumServedRank : TargetedProjection.maximumRank)
    if scope == .factors { try checkFactors() }
  }

  private func checkFactors() throws {
    let reason = PEFTScope.servedOnly
    let tables = Table.allCases.map(\.rawValue)
    for name in savedModules where !tables.contains(where: { $0 == name || $0.hasSuffix("." + name) }) {
      throw ModelError(file, "modules_to_save", reason: "\(name) \(reason)")
    }
    if !tokens.isEmpty { throw ModelError(file, "trainable_token_indices", reason: reason) }
    if usesLoRABias { throw ModelError(file, "lora_bias", reason: reason) }
  }

  private static func checkFixedFields(_ fields: HuggingFaceFields) throws {
    let file = fields.file
    // Which biases are trained. The weights have those that were saved.
    if let bias = try fields.string("bias"), !["none", "lora_only", "all"].contains(bias) {
      throw ModelError(file, "bias", reason: "\(bias) is not none, lora_only or all")
    }
    // Transposed weights, which only Conv1D layers have. PEFT takes it for false in linear layers and embeddings.
    _ = try fields.bool("fan_in_fan_out")
    switch fields.object["init_lora_weights"] {
    case nil, .null, .bool: break
    case .string(let name) where initializations.contains(name): break
    case .string("loftq"):
      throw ModelError(
        file, "init_lora_weights",
        reason:
          "loftq is not supported: the adapter is for the base that LoftQ quantised and changed. Where that base is "
          + "the one that is served, set the field to true")
    case .string(let name):
      throw ModelError(
        file, "init_lora_weights",
        reason: "\(name) is not supported: it may assume a modified base. Save the adapter in PEFT with "
          + "path_initial_model_for_weight_conversion, or put the initial adapter into the folder as "
          + "\(InitialAdapter.folderNames[0])/")
    default: throw ModelError(file, "init_lora_weights", reason: "neither a boolean nor a string")
    }
  }

  private func checkCombination(maximumRank: Int) throws {
    if case .names(let names) = targets {
      guard !names.isEmpty else { throw ModelError(file, "target_modules", reason: "is empty") }
    } else {
      // PEFT refuses these too.
      if layers != nil, targets != .allLinear {
        throw ModelError(file, "layers_to_transform", reason: "cannot go with a pattern in target_modules")
      }
      if !layerPatterns.isEmpty {
        throw ModelError(file, "layers_pattern", reason: "cannot go with a pattern in target_modules")
      }
    }
    guard layerPatterns.isEmpty || layers != nil else {
      throw ModelError(file, "layers_pattern", reason: "needs layers_to_transform")
    }
    if usesLoRABias, usesDoRA { throw ModelError(file, "lora_bias", reason: "cannot go with use_dora") }
    for (field, rank) in [("r", rank)] + rankPattern.map({ ("rank_pattern", $0.value) }) {
      guard 1...maximumRank ~= rank else {
        throw ModelError(file, field, reason: "\(rank) is not a rank from 1 to \(maximumRank)")
      }
    }
  }
}

/// Reads the kinds of fields that only an adapter_config.json has.
extension HuggingFaceFields {
  /// Whether there is a field that MLX-LM writes.
  fileprivate var isFromMLX: Bool {
    ["fine_tune_type", "lora_parameters", "lora_layers", "adapter_path"].contains { object[$0] != nil }
  }

  private func list(_ value: JSONValue) -> [String]? {
    guard let array = value.array, array.count <= 100_000 else { return nil }
    let strings = array.compactMap(\.string)
    return strings.count == array.count ? strings : nil
  }

  /// A list of strings, or one string; an empty string counts as none.
  fileprivate func strings(_ key: String) throws -> [String] {
    let strings = try value(key, "a string or a list of strings") { $0.string.map { [$0] } ?? list($0) } ?? []
    guard strings.count <= 16 else { throw ModelError(file, key, reason: "has \(strings.count) patterns") }
    return strings == [""] ? [] : strings
  }

  fileprivate func targets(_ key: String) throws -> PEFTConfig.Targets? {
    try value(key, "a string or a list of strings") { value in
      if let list = list(value) { return .names(list) }
      guard let string = value.string else { return nil }
      if key == "exclude_modules" { return string.isEmpty ? .names([]) : .pattern(string) }
      return string.lowercased() == "all-linear" ? .allLinear : .pattern(string)
    }
  }

  /// A list of token ids for the embedding, or lists by the names of modules.
  fileprivate func tokenIndices(_ key: String) throws -> [(module: String, ids: [Int])] {
    func ids(_ value: JSONValue) -> [Int]? {
      guard let array = value.array, array.count <= 1 << 20 else { return nil }
      let ids = array.compactMap(\.integer)
      return ids.count == array.count ? ids : nil
    }
    let lists = try value(key, "a list of token ids, nor an object of them") { value -> [(String, [Int])]? in
      if let list = ids(value) { return [("embed_tokens", list)] }
      guard let pairs = value.object?.pairs, pairs.count <= 16 else { return nil }
      let lists = pairs.compactMap { pair in ids(pair.value).map { (pair.key, $0) } }
      return lists.count == pairs.count ? lists : nil
    }
    return (lists ?? []).filter { !$0.1.isEmpty }.map { (module: $0.0, ids: $0.1) }
  }

  fileprivate func layers(_ key: String) throws -> Set<Int>? {
    let layers = try value(key, "an integer or a list of integers") { value -> [Int]? in
      if let layer = value.integer { return [layer] }
      guard let array = value.array else { return nil }
      let layers = array.compactMap(\.integer)
      return layers.count == array.count ? layers : nil
    }
    guard let layers, !layers.isEmpty else { return nil }
    return Set(layers)
  }

  fileprivate func pattern<T>(
    _ key: String, limit: Int, _ read: @escaping (JSONValue) -> T?
  ) throws -> [(key: String, value: T)] {
    guard let pairs = try value(key, "an object", { $0.object })?.pairs else { return [] }
    guard pairs.count <= limit else { throw ModelError(file, key, reason: "has more than \(limit) entries") }
    return try pairs.map { pair in
      guard let value = read(pair.value) else { throw ModelError(file, key, reason: "\(pair.key) has no number") }
      return (pair.key, value)
    }
  }
}
