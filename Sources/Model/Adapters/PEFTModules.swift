import Formats

/// Which modules of a model a PEFT configuration targets, with which rank and alpha: PEFT's own rules
/// (`check_target_module_exists`, `get_pattern_key`), except that it refuses what PEFT would fail at later.
struct PEFTModules {
  struct Target: Equatable {
    let layer: Int
    let linear: LinearModule
    let rank: Int
    let alpha: Double
  }

  let targets: [Target]

  /// Throws `ModelError` naming the field if a pattern cannot be matched, if nothing is targeted, or if something is
  /// that is no linear module of a decoder layer.
  init(_ peft: PEFTConfig, config: ModelConfig) throws {
    let selector = try Selector(peft)
    let ranks = try Self.compile(peft.rankPattern, file: peft.file, field: "rank_pattern")
    let alphas = try Self.compile(peft.alphaPattern, file: peft.file, field: "alpha_pattern")
    var targets: [Target] = []
    for layer in 0..<config.layerCount {
      for linear in LinearModule.allCases {
        let name = linear.fullName(layer: layer)
        guard try selector.selects(name, isLayerLinear: true) else { continue }
        let rank = try Self.first(ranks, matching: name) ?? peft.rank
        let alpha = try Self.first(alphas, matching: name) ?? peft.alpha
        targets.append(Target(layer: layer, linear: linear, rank: rank, alpha: alpha))
      }
    }
    for name in Self.otherModules(config) where try selector.selects(name, isLayerLinear: false) {
      throw ModelError(peft.file, "target_modules", reason: "\(name) is targeted, which is not supported")
    }
    guard !targets.isEmpty else { throw ModelError(peft.file, "target_modules", reason: "no module is targeted") }
    self.targets = targets
  }

  /// Modules of a Llama model beside the linear ones of its layers.
  private static func otherModules(_ config: ModelConfig) -> [String] {
    var names = ["model", "model.embed_tokens", "model.layers", "model.norm", "model.rotary_emb", "lm_head"]
    for layer in 0..<config.layerCount {
      let parts = ["self_attn", "mlp", "mlp.act_fn", "input_layernorm", "post_attention_layernorm"]
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

private struct Selector {
  private enum Rule {
    case names(exact: Set<String>, suffixes: Set<Substring>)
    case pattern(PythonPattern)
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

  func selects(_ name: String, isLayerLinear: Bool) throws -> Bool {
    switch excluded {
    case .names(let exact, let suffixes): if exact.contains(name) || Self.ends(name, with: suffixes) { return false }
    case .pattern(let pattern): if try pattern.match(name).matches { return false }
    case .allLinear: break
    }
    switch target {
    case .allLinear: return try isLayerLinear && isInLayers(name)
    case .pattern(let pattern): return try pattern.match(name).matches
    case .names(let exact, let suffixes):
      // A full name is taken whatever the layers are.
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
