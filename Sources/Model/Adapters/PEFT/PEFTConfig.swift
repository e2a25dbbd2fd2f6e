import Formats

/// An adapter_config.json (PEFT 0.21, `LoraConfig`).
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

  let file: String
  let rank: Int
  let alpha: Double
  let usesRSLoRA: Bool
  let usesDoRA: Bool
  let targets: Targets
  let excluded: Targets
  /// `layers_to_transform`; `nil` for all layers.
  let layers: Set<Int>?
  let layerPatterns: [String]
  /// In the file's order: the first key that matches a module's name decides.
  let rankPattern: [(key: String, value: Int)]
  let alphaPattern: [(key: String, value: Double)]
  let baseModel: String?

  /// A module of the base that an adapter can have an unchanged copy of, and that `modules_to_save` can name.
  enum BaseCopy: String, CaseIterable {
    case embedding = "model.embed_tokens"
    case head = "lm_head"
  }

  static let maximumRank = 512
  private static let patternLimit = 1024

  /// Fields that do not change what a trained adapter computes, or only together with a field that is refused.
  private static let ignoredFields: Set<String> = [
    "auto_mapping", "inference_mode", "lora_dropout", "megatron_core", "peft_version", "qalora_group_size", "revision",
    "runtime_config", "task_type",
    // How training begins. `init_lora_weights` says whether that changes the base.
    "corda_config", "eva_config", "loftq_config", "lora_ga_config",
    // About saved and trained embeddings, which are refused if they change anything.
    "ensure_weight_tying",
  ]

  private static let honouredFields: Set<String> = [
    "alpha_pattern", "base_model_name_or_path", "bias", "exclude_modules", "fan_in_fan_out", "init_lora_weights",
    "layers_pattern", "layers_to_transform", "lora_alpha", "modules_to_save", "peft_type", "r", "rank_pattern",
    "target_modules",
    "use_dora", "use_rslora",
  ]

  /// Initialisations that leave the base as it is.
  private static let initializations: Set<String> = ["eva", "gaussian", "orthogonal"]

  /// - Throws: `ModelError` naming the field that is wrong or not supported
  init(_ text: [UInt8], file: String) throws {
    let fields = try HuggingFaceFields(text, file: file)
    if fields.object["peft_type"] == nil, fields.isFromMLX {
      throw ModelError(
        file, reason: "is of an MLX-LM adapter, which has other names and shapes; convert the adapter to PEFT's form")
    }
    guard let type = try fields.string("peft_type") else { throw ModelError(file, "peft_type", reason: "missing") }
    guard type.uppercased() == "LORA" else {
      throw ModelError(file, "peft_type", reason: "\(type) is not supported, only LORA")
    }
    for (key, value) in fields.object.pairs
    where !Self.ignoredFields.contains(key) && !Self.honouredFields.contains(key) {
      guard value.saysNothing else {
        throw ModelError(file, key, reason: "is not supported")
      }
    }
    try Self.checkFixedFields(fields)

    self.file = file
    rank = try fields.integer("r") ?? 8
    alpha = try fields.number("lora_alpha") ?? 8
    usesRSLoRA = try fields.bool("use_rslora") ?? false
    usesDoRA = try fields.bool("use_dora") ?? false
    baseModel = try fields.string("base_model_name_or_path")
    // PEFT's default for Llama.
    targets = try fields.targets("target_modules") ?? .names(["q_proj", "v_proj"])
    excluded = try fields.targets("exclude_modules") ?? .names([])
    layers = try fields.layers("layers_to_transform")
    layerPatterns = try fields.strings("layers_pattern")
    rankPattern = try fields.pattern("rank_pattern", limit: Self.patternLimit) { $0.integer }
    alphaPattern = try fields.pattern("alpha_pattern", limit: Self.patternLimit) { $0.double }
    try checkCombination()
  }

  private static func checkFixedFields(_ fields: HuggingFaceFields) throws {
    let file = fields.file
    // Which biases are trained. The base has none.
    if let bias = try fields.string("bias"), !["none", "lora_only", "all"].contains(bias) {
      throw ModelError(file, "bias", reason: "\(bias) is not none, lora_only or all")
    }
    if try fields.bool("fan_in_fan_out") == true {
      throw ModelError(file, "fan_in_fan_out", reason: "is not supported")
    }
    for name in try fields.strings("modules_to_save") {
      guard BaseCopy.allCases.contains(where: { $0.rawValue == name || $0.rawValue.hasSuffix("." + name) }) else {
        throw ModelError(file, "modules_to_save", reason: "\(name) is not supported")
      }
    }
    switch fields.object["init_lora_weights"] {
    case nil, .null, .bool: break
    case .string(let name) where initializations.contains(name): break
    case .string(let name):
      throw ModelError(file, "init_lora_weights", reason: "\(name) is not supported, it may assume a modified base")
    default: throw ModelError(file, "init_lora_weights", reason: "neither a boolean nor a string")
    }
  }

  private func checkCombination() throws {
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
    for (field, rank) in [("r", rank)] + rankPattern.map({ ("rank_pattern", $0.value) }) {
      guard 1...Self.maximumRank ~= rank else {
        throw ModelError(file, field, reason: "\(rank) is not a rank from 1 to \(Self.maximumRank)")
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
