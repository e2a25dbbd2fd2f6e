import Formats
import Kernels

/// The rows of the embedding and the head that an adapter has other values for than the base. Found by comparing all rows
/// once, so that copies of the base's own take no memory.
struct ChangedTables {
  /// Token ids, ascending, and the rows of the tensor that has their values.
  private(set) var embedding: [(id: Int, row: Int)] = []
  private(set) var head: [(id: Int, row: Int)] = []
  private let reader: PEFTReader
  private let base: BaseTables

  /// - Throws: `ModelError` naming a tensor that has the wrong shape or values that are not finite
  init(_ reader: PEFTReader, base: BaseTables) throws {
    self.reader = reader
    self.base = base
    embedding = try changed(.embedding)
    head = try changed(.head)
  }

  /// What the header says of norms, embedding and head.
  var entries: OtherEntries {
    var entries = OtherEntries(norms: reader.others.norms.map { OtherEntries.key($0.key) })
    func table(_ source: PEFTOtherModules.Table, _ extras: AdapterLayout.Extras, _ tokens: Int) -> OtherEntries.Table? {
      let factors = source.factors
      let table = OtherEntries.Table(
        rank: factors?.rank ?? 0, scale: factors?.scale.bitPattern ?? 0,
        extras: factors == nil ? 0 : extras.rawValue, tokens: tokens)
      return table.isEmpty ? nil : table
    }
    var extras: AdapterLayout.Extras = []
    if reader.peft.usesDoRA { extras.insert(.rowFactors) }
    if reader.peft.usesLoRABias { extras.insert(.bias) }
    entries.embedding = table(reader.others.embedding, [], embedding.count)
    entries.head = table(reader.others.head, extras, head.count)
    return entries
  }

  /// The adapter's row minus the base's.
  /// - Parameter index: among the changed rows
  func difference(_ table: PEFTConfig.Table, _ index: Int) throws -> [Float] {
    let (id, row) = table == .embedding ? embedding[index] : head[index]
    var (values, own) = emptyRows
    guard let rows = reader.others[table].rows, try base.read(table, row: id, into: &own) else { return [] }
    try reader.weights.readRow(rows.name, row, into: &values)
    for column in values.indices { values[column] -= own[column] }
    guard values.allSatisfy(\.isFinite) else {
      throw reader.weights.failure(rows.name, "row \(row) is too far from the base's")
    }
    return values
  }

  private var emptyRows: ([Float], [Float]) {
    let row = [Float](repeating: 0, count: reader.config.hiddenSize)
    return (row, row)
  }

  private func changed(_ table: PEFTConfig.Table) throws -> [(id: Int, row: Int)] {
    guard let source = reader.others[table].rows else { return [] }
    let (vocabulary, columns) = (reader.config.vocabularySize, reader.config.hiddenSize)
    let candidates: [(id: Int, row: Int)]
    switch source {
    case .all(let name):
      try reader.weights.check(name, shape: [vocabulary, columns])
      candidates = (0..<vocabulary).map { ($0, $0) }
    case .tokens(let name, let rows):
      try reader.weights.check(name, shape: [rows.count, columns])
      candidates = rows
    }
    var (values, own) = emptyRows
    return try candidates.filter { candidate in
      try reader.weights.readRow(source.name, candidate.row, into: &values)
      guard try base.read(table, row: candidate.id, into: &own) else {
        throw reader.weights.failure(source.name, "cannot be compared with the base's, which has no exact copy")
      }
      return values != own
    }
  }
}
