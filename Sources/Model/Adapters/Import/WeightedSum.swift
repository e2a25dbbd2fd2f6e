import Formats
public import Foundation

/// Several LoRA adapters with weights as one, as PEFT's `add_weighted_adapter` makes them.
public enum WeightedSum {
  /// How adapters are combined.
  public enum Combination: String, CaseIterable, Sendable {
    /// The exact sum: the factors side by side, the ranks added.
    case cat
    /// The sum of the A and the sum of the B, each with the root of its weight. The product has terms that mix adapters.
    case linear
  }

  /// An adapter with its weight.
  public struct Member: Sendable {
    let label: String
    let folder: URL
    let weight: Float

    /// - Parameters:
    ///   - label: what errors call it
    ///   - folder: PEFT's
    public init(label: String, folder: URL, weight: Float) {
      self.label = label
      self.folder = folder
      self.weight = weight
    }
  }

  /// Writes the sum as a PEFT folder.
  /// - Parameters:
  ///   - folder: exists
  ///   - base: that all members are for
  /// - Throws: `ModelError` naming the member that is not plain LoRA, or the module whose ranks cannot be combined, with the
  ///   members
  public static func write(
    _ members: [Member], _ combination: Combination, to folder: URL, base: Base
  ) throws {
    var terms: [String: [Term]] = [:]
    for member in members {
      for term in try Self.terms(member, base: base) { terms[term.module.name, default: []].append(term) }
    }
    try PlainFactors(
      modules: terms.sorted { $0.key < $1.key }.map { name, terms in
        switch combination {
        case .cat: try concatenated(name, terms)
        case .linear: try summed(name, terms)
        }
      }
    ).write(to: folder)
  }

  /// What one member does to one module.
  private struct Term {
    /// The member's.
    let label: String
    let module: PlainFactors.Module
    /// The member's weight times its scale.
    let factor: Float
  }

  private static func terms(_ member: Member, base: Base) throws -> [Term] {
    let (config, reader) = (base.config, try PEFTReader(folder: member.folder, config: base.config, scope: .all))
    let tables = try ChangedTables(reader, base: BaseTables(base))
    let isPlain =
      reader.peft.method == .lora && !reader.peft.usesDoRA && !reader.peft.usesLoRABias && reader.others.norms.isEmpty
      && reader.changes.allSatisfy { $0.lora != nil && $0.bias == nil } && tables.embedding.isEmpty
      && tables.head.isEmpty
    guard isPlain else {
      throw ModelError(
        member.label,
        reason:
          "is not plain LoRA, and only that can be combined under a name; name the adapters in the request instead")
    }
    func term(_ name: String, _ rank: Int, _ scale: Float, _ shape: (output: Int, input: Int)) -> Term {
      func read(_ part: PEFTTensorName.Part, _ shape: [Int]) throws -> [Float] {
        try reader.weights.read(PEFTTensorName.name(module: name, part), shape: shape)
      }
      let module = PlainFactors.Module(
        name: name, rank: rank, alpha: Double(rank), columns: shape.input, outputs: shape.output,
        a: { try read(.a, [rank, shape.input]) }, b: { try read(.b, [shape.output, rank]) })
      return Term(label: member.label, module: module, factor: member.weight * scale)
    }
    var terms = reader.projections.map { target in
      term(
        target.projection.fullName(layer: target.layer), target.rank, target.scale, target.projection.shape(config))
    }
    if let table = reader.others.embedding.factors {
      let shape = (output: config.hiddenSize, input: config.vocabularySize)
      terms.append(term(PEFTConfig.Table.embedding.rawValue, table.rank, table.scale, shape))
    }
    if let table = reader.others.head.factors {
      let shape = (output: config.vocabularySize, input: config.hiddenSize)
      terms.append(term(PEFTConfig.Table.head.rawValue, table.rank, table.scale, shape))
    }
    return terms
  }

  /// A and B of all terms side by side; the factors are in A.
  private static func concatenated(_ name: String, _ terms: [Term]) throws -> PlainFactors.Module {
    let rank = terms.reduce(0) { $0 + $1.module.rank }
    guard rank <= PEFTConfig.maximumServedRank else {
      let parts = terms.map { "\($0.label) (\($0.module.rank))" }.joined(separator: ", ")
      throw ModelError(
        name,
        reason: "the ranks of \(parts) add up to \(rank), more than \(PEFTConfig.maximumServedRank); name the adapters "
          + "in the request instead")
    }
    let (columns, outputs) = (terms[0].module.columns, terms[0].module.outputs)
    return PlainFactors.Module(
      name: name, rank: rank, alpha: Double(rank), columns: columns, outputs: outputs,
      a: { try terms.flatMap { term in try term.module.a().map { $0 * term.factor } } },
      b: {
        let all = try terms.map { (values: try $0.module.b(), rank: $0.module.rank) }
        return (0..<outputs).flatMap { row in
          all.flatMap { $0.values[row * $0.rank..<(row + 1) * $0.rank] }
        }
      })
  }

  /// The sums of A and of B, with the roots of the factors; the sign is A's.
  private static func summed(_ name: String, _ terms: [Term]) throws -> PlainFactors.Module {
    let first = terms[0].module
    let (rank, columns, outputs) = (first.rank, first.columns, first.outputs)
    guard terms.allSatisfy({ $0.module.rank == rank }) else {
      throw ModelError(name, reason: "has factors of several ranks, which 'linear' cannot combine; 'cat' can")
    }
    func sum(_ count: Int, _ factor: (Term) -> Float, _ read: (Term) throws -> [Float]) throws -> [Float] {
      var sum = [Float](repeating: 0, count: count)
      for term in terms {
        let (values, factor) = (try read(term), factor(term))
        for i in 0..<count { sum[i] += factor * values[i] }
      }
      return sum
    }
    func root(_ term: Term) -> Float { abs(term.factor).squareRoot() }
    return PlainFactors.Module(
      name: name, rank: rank, alpha: Double(rank), columns: columns, outputs: outputs,
      a: { try sum(rank * columns, { $0.factor < 0 ? -root($0) : root($0) }) { try $0.module.a() } },
      b: { try sum(outputs * rank, root) { try $0.module.b() } })
  }
}
