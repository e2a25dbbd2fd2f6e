import Formats
import Foundation

/// What a PEFT folder changes beside projections: norms, the embedding and the output head.
struct PEFTOtherModules {
  /// Where the rows of a table come from that take the place of the base's.
  enum Rows {
    /// A tensor with a row for every token.
    case all(String)
    /// A tensor with rows for some tokens: their ids, ascending, and which row each has.
    case tokens(String, [(id: Int, row: Int)])

    var name: String {
      switch self {
      case .all(let name), .tokens(let name, _): name
      }
    }
  }

  /// The embedding or the head.
  struct Table {
    var factors: PEFTTargets.Table?
    var rows: Rows?
    var isEmpty: Bool { factors == nil && rows == nil }
  }

  /// Ascending by `OtherEntries.key`.
  private(set) var norms: [(key: OtherChanges.NormKey, tensor: String, size: Int)] = []
  private(set) var embedding = Table()
  private(set) var head = Table()
  /// The names of all tensors that belong to these modules.
  private(set) var names: Set<String> = []

  private let config: ModelConfig

  /// - Throws: `ModelError` naming the field that is wrong or not supported
  init(_ peft: PEFTConfig, _ targets: PEFTTargets, _ weights: PEFTWeights, config: ModelConfig) throws {
    self.config = config
    embedding.factors = targets.tables[.embedding]
    head.factors = targets.tables[.head]
    if embedding.factors != nil {
      for part in [PEFTTensorName.Part.a, .b] { names.insert(PEFTTensorName.name(.embedding, part)) }
    }
    if head.factors != nil {
      for part in peft.usesDoRA ? PEFTTensorName.Part.allCases : [.a, .b] {
        names.insert(PEFTTensorName.name(.head, part))
      }
      if peft.usesLoRABias { names.insert(Self.name(.head) + PEFTTensorName.biasSuffix) }
    }
    let saved = try resolveSaved(peft)
    resolveCopies(weights, saved)
    try resolveTokens(peft)
    try tie(peft, saved)
  }

  private static func name(_ table: PEFTConfig.Table) -> String { PEFTTensorName.prefix + table.rawValue }
  private static func weight(_ table: PEFTConfig.Table) -> String { name(table) + ".weight" }

  /// Finds the modules that `modules_to_save` names, by PEFT's rule: whose full names end so.
  /// - Returns: the tables among them
  private mutating func resolveSaved(_ peft: PEFTConfig) throws -> Set<PEFTConfig.Table> {
    func failure(_ reason: String) -> ModelError { ModelError(peft.file, "modules_to_save", reason: reason) }
    var tables: Set<PEFTConfig.Table> = []
    var norms: [String: (key: OtherChanges.NormKey, tensor: String, size: Int)] = [:]
    let known = normNames()
    let modules =
      PEFTTargets.otherModules(config)
      + (0..<config.layerCount).flatMap { layer in
        config.projections.map { $0.fullName(layer: layer) }
      }
    for name in peft.savedModules {
      let matches = modules.filter { $0.hasSuffix(name) }
      guard !matches.isEmpty else { throw failure("\(name) is no module of the base") }
      for module in matches {
        if let table = PEFTConfig.Table(rawValue: module) {
          tables.insert(table)
          names.insert(Self.weight(table))
        } else if let norm = known[module] {
          let tensor = PEFTTensorName.prefix + module + ".weight"
          let size = norm.layer == nil ? config.hiddenSize : config.size(of: norm.norm)
          norms[module] = (norm, tensor, size)
          names.insert(tensor)
        } else {
          throw failure("\(name) is not supported: it names \(module), and only the embedding, the head and norms are")
        }
      }
    }
    self.norms = norms.values.sorted { OtherEntries.key($0.key) < OtherEntries.key($1.key) }
    return tables
  }

  private func normNames() -> [String: OtherChanges.NormKey] {
    var names = ["model.norm": OtherChanges.NormKey.last]
    for layer in 0..<config.layerCount {
      for norm in LayerNorm.allCases {
        guard let name = config.architecture.name(of: norm) else { continue }
        names["model.layers.\(layer).\(name)"] = OtherChanges.NormKey(layer: layer, norm: norm)
      }
    }
    return names
  }

  /// Finds whole tables, whether `modules_to_save` names them or not: PEFT saves them unasked, too, and loads what it finds.
  private mutating func resolveCopies(_ weights: PEFTWeights, _ saved: Set<PEFTConfig.Table>) {
    for table in PEFTConfig.Table.allCases {
      let name = Self.weight(table)
      guard saved.contains(table) || weights.has(name) else { continue }
      names.insert(name)
      set(table, rows: .all(name))
    }
    // A copy that no wrapper keeps apart is the base's own table, and so the tied one's, too.
    guard config.tiedHead, saved.isEmpty else { return }
    if embedding.rows == nil { embedding.rows = head.rows }
    if head.rows == nil { head.rows = embedding.rows }
  }

  private mutating func resolveTokens(_ peft: PEFTConfig) throws {
    func failure(_ reason: String) -> ModelError { ModelError(peft.file, "trainable_token_indices", reason: reason) }
    var lists: [PEFTConfig.Table: [Int]] = [:]
    for (module, ids) in peft.tokens {
      guard let table = PEFTConfig.Table.allCases.first(where: { $0.rawValue.hasSuffix(module) }) else {
        throw failure("\(module) is neither the embedding nor the head")
      }
      guard Set(ids).count == ids.count, ids.allSatisfy({ 0..<config.vocabularySize ~= $0 }) else {
        throw failure("has ids that come twice, or are not of the base's \(config.vocabularySize) tokens")
      }
      lists[table] = ids
    }
    func replaced(_ table: PEFTConfig.Table, _ ids: [Int]) -> Rows {
      let sorted = ids.enumerated().map { (id: $0.element, row: $0.offset) }.sorted { $0.id < $1.id }
      return .tokens(Self.name(table) + ".token_adapter.trainable_tokens_delta", sorted)
    }
    let embeddingIDs = lists[.embedding]
    for (table, ids) in lists {
      let (own, isTied) = (self[table], config.tiedHead && embeddingIDs != nil)
      guard own.isEmpty else { throw failure("\(table.rawValue) is targeted or saved, too") }
      // Of tied tables with the same tokens PEFT saves only the embedding's.
      if table == .head, isTied, ids == embeddingIDs { continue }
      let rows = replaced(table, ids)
      names.insert(rows.name)
      set(table, rows: rows)
    }
    if config.tiedHead, let embeddingIDs, lists[.head] == nil || lists[.head] == embeddingIDs {
      guard head.isEmpty else { throw failure("the tied head is targeted or saved, too") }
      head.rows = replaced(.embedding, embeddingIDs)
    }
  }

  /// `ensure_weight_tying`: what changes the embedding changes the tied head.
  private mutating func tie(_ peft: PEFTConfig, _ saved: Set<PEFTConfig.Table>) throws {
    guard peft.tiesWeights, config.tiedHead else { return }
    if head.rows == nil, saved.contains(.embedding) { head.rows = embedding.rows }
    if embedding.rows == nil, saved.contains(.head) { embedding.rows = head.rows }
    guard embedding.factors == nil && head.factors == nil else {
      throw ModelError(
        peft.file, "ensure_weight_tying", reason: "is not supported with the embedding or the head among target_modules"
      )
    }
  }

  /// What the adapter changes of a table.
  subscript(table: PEFTConfig.Table) -> Table { table == .embedding ? embedding : head }

  private mutating func set(_ table: PEFTConfig.Table, rows: Rows) {
    switch table {
    case .embedding: embedding.rows = rows
    case .head: head.rows = rows
    }
  }
}
