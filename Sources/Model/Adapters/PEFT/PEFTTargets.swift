import Formats

/// Which projections of a model a PEFT configuration targets, with which rank and scale: PEFT's own rules
/// (`check_target_module_exists`, `get_pattern_key`), except that this refuses what PEFT would fail at later. PEFT calls
/// a projection a linear module.
struct PEFTTargets {
  /// The embedding or the head, with the rank and the scale of its update.
  struct Table {
    let rank: Int
    let alpha: Double
    let scale: Float
  }

  /// LoRA's, in the order of layers, then of `ModelConfig.projections`.
  let projections: [TargetedProjection]
  /// IA3's, in the same order.
  let scaled: [(layer: Int, projection: Projection, isFeedForward: Bool)]
  /// The embedding and the head, where LoRA targets them.
  let tables: [PEFTConfig.Table: Table]

  /// - Parameters:
  ///   - config: the model's
  ///   - spelling: of the modules' names, to which the configuration's patterns belong
  /// - Throws: `ModelError` naming the field if a pattern cannot be matched, if nothing is targeted, if something is
  ///   targeted that is no projection of a decoder layer, or if a scale is beyond f32
  init(_ peft: PEFTConfig, config: ModelConfig, spelling: PEFTWeights.Spelling = .own) throws {
    let selector = try Selector(peft)
    let ranks = try Self.compile(peft.rankPattern, file: peft.file, field: "rank_pattern")
    let alphas = try Self.compile(peft.alphaPattern, file: peft.file, field: "alpha_pattern")
    var projections: [TargetedProjection] = []
    var scaled: [(layer: Int, projection: Projection, isFeedForward: Bool)] = []
    var tables: [PEFTConfig.Table: Table] = [:]
    func factors(_ ownName: String) throws -> (rank: Int, alpha: Double, scale: Float) {
      let name = spelling.name(ownName)
      let rank = try Self.first(ranks, matching: name) ?? peft.rank
      let alpha = try Self.first(alphas, matching: name) ?? peft.alpha
      let scale = LoRAScale.value(alpha: alpha, rank: rank, usesRSLoRA: peft.usesRSLoRA)
      guard scale.isFinite else { throw ModelError(peft.file, "lora_alpha", reason: "\(alpha) is out of range") }
      return (rank, alpha, scale)
    }
    let feedForward = try Selector.feedForward(peft)
    for layer in 0..<config.layerCount {
      for projection in config.projections {
        let name = projection.fullName(layer: layer)
        guard try selector.selects(spelling.name(name), isProjection: true) else { continue }
        if peft.method == .ia3 {
          let isFeedForward = try feedForward(spelling.name(name))
          guard !isFeedForward || projection.isAlone(config) else {
            throw ModelError(
              peft.file, "feedforward_modules",
              reason: "\(name) is not supported: other modules read the same input, and scaling it changes them, too")
          }
          scaled.append((layer, projection, isFeedForward))
          continue
        }
        let (rank, alpha, scale) = try factors(name)
        projections.append(
          TargetedProjection(layer: layer, projection: projection, rank: rank, alpha: alpha, scale: scale))
      }
    }
    for name in Self.otherModules(config) where try selector.selects(spelling.name(name), isProjection: false) {
      guard peft.method == .lora, let table = PEFTConfig.Table(rawValue: name) else {
        throw ModelError(peft.file, "target_modules", reason: "\(name) is targeted, which is not supported")
      }
      if table == .embedding, peft.usesDoRA || peft.usesLoRABias {
        throw ModelError(
          peft.file, "target_modules",
          reason: "\(name) is targeted, which is not supported with \(peft.usesDoRA ? "use_dora" : "lora_bias")")
      }
      let (rank, alpha, scale) = try factors(name)
      tables[table] = Table(rank: rank, alpha: alpha, scale: scale)
    }
    guard !projections.isEmpty || !scaled.isEmpty || !tables.isEmpty else {
      throw ModelError(peft.file, "target_modules", reason: "no module is targeted")
    }
    self.projections = projections
    self.scaled = scaled
    self.tables = tables
  }

  /// - Throws: `ModelError` if something is targeted that is no projection
  func checkFactors(file: String) throws {
    guard let name = tables.keys.map(\.rawValue).min() else { return }
    throw ModelError(file, "target_modules", reason: "\(name) is targeted, which \(PEFTScope.servedOnly)")
  }

  /// The modules of a model that are no projections.
  static func otherModules(_ config: ModelConfig) -> [String] {
    var names = ["model", "model.embed_tokens", "model.layers", "model.norm", "model.rotary_emb", "lm_head"]
    for layer in 0..<config.layerCount {
      let parts = ["self_attn", "mlp", "mlp.act_fn"] + LayerNorm.allCases.compactMap(config.architecture.name)
      names.append("model.layers.\(layer)")
      names += parts.map { "model.layers.\(layer).\($0)" }
    }
    return names
  }

  private static func compile<T>(
    _ entries: [(key: String, value: T)], file: String, field: String
  ) throws -> [(pattern: PythonPattern, value: T)] {
    try entries.map { entry in
      // `$` may match before a last newline, which module names do not have.
      (try PythonPattern("(.*\\.)?(\(entry.key))$", anchoring: .start, file: file, field: field), entry.value)
    }
  }

  private static func first<T>(_ entries: [(pattern: PythonPattern, value: T)], matching name: String) throws -> T? {
    for entry in entries where try entry.pattern.match(name).matches { return entry.value }
    return nil
  }
}

/// Decides whether a configuration targets a module, by the module's full name.
private struct Selector {
  /// One of the fields `target_modules` and `exclude_modules`.
  private enum Rule {
    /// A module's full name, or the end of it after a dot.
    case names(exact: Set<String>, suffixes: Set<Substring>)
    /// A pattern for the full name.
    case pattern(PythonPattern)
    /// Every projection.
    case allLinear

    init(_ targets: PEFTConfig.Targets, file: String, field: String) throws {
      switch targets {
      case .names(let names):
        self = .names(exact: Set(names), suffixes: Set(names.map { $0[...] }))
      case .pattern(let text):
        self = .pattern(try PythonPattern(text, anchoring: .both, file: file, field: field))
      case .allLinear: self = .allLinear
      }
    }
  }

  private let target: Rule
  private let excluded: Rule
  private let layers: Set<Int>?
  private let layerPatterns: [PythonPattern]

  init(_ peft: PEFTConfig) throws {
    target = try Rule(peft.targets, file: peft.file, field: "target_modules")
    excluded = try Rule(peft.excluded, file: peft.file, field: "exclude_modules")
    layers = peft.layers
    let patterns =
      peft.layerPatterns.isEmpty
      ? [#".*?\.[^.]*\.(?P<idx>\d+)\."#] : peft.layerPatterns.map { #"(?:^|.*?\.)\#($0)\.(?P<idx>\d+)\."# }
    layerPatterns = try patterns.map {
      try PythonPattern($0, anchoring: .start, file: peft.file, field: "layers_pattern")
    }
  }

  /// Whether IA3 scales the input of a module, by the module's full name.
  static func feedForward(_ peft: PEFTConfig) throws -> (String) throws -> Bool {
    guard peft.method == .ia3 else { return { _ in false } }
    switch peft.feedForward {
    // PEFT compares ends of names here without a dot before them.
    case .names(let names): return { name in names.contains { name.hasSuffix($0) } }
    case .pattern(let text):
      let pattern = try PythonPattern(text, anchoring: .both, file: peft.file, field: "feedforward_modules")
      return { try pattern.match($0).matches }
    case .allLinear: throw ModelError(peft.file, "feedforward_modules", reason: "is neither a pattern nor a list")
    }
  }

  func selects(_ name: String, isProjection: Bool) throws -> Bool {
    switch excluded {
    case .names(let exact, let suffixes): if exact.contains(name) || Self.ends(name, with: suffixes) { return false }
    case .pattern(let pattern): if try pattern.match(name).matches { return false }
    case .allLinear: break
    }
    switch target {
    case .allLinear: return try isProjection && isInLayers(name)
    case .pattern(let pattern): return try pattern.match(name).matches
    case .names(let exact, let suffixes):
      // `layers_to_transform` does not limit full names.
      if exact.contains(name) { return true }
      return try Self.ends(name, with: suffixes) && isInLayers(name)
    }
  }

  /// Whether the name is one of the suffixes after a dot.
  private static func ends(_ name: String, with suffixes: Set<Substring>) -> Bool {
    var rest = name[...]
    while let dot = rest.firstIndex(of: ".") {
      rest = rest[rest.index(after: dot)...]
      if suffixes.contains(rest) { return true }
    }
    return false
  }

  private func isInLayers(_ name: String) throws -> Bool {
    guard let layers else { return true }
    for pattern in layerPatterns {
      let (matches, index) = try pattern.match(name)
      if matches { return index.flatMap { Int($0) }.map { layers.contains($0) } ?? false }
    }
    return false
  }
}
