import Formats
import Foundation
import Kernels

/// Merges an adapter into a model's weights, tensor by tensor: what PEFT's `merge_and_unload` makes of each. A value is
/// rounded once, when it is written.
struct WeightMerge {
  static let embedding = PEFTConfig.Table.embedding.rawValue + ".weight"
  static let head = PEFTConfig.Table.head.rawValue + ".weight"

  /// What the adapter makes of the embedding and of a head that is tied to it differs, so that the head needs a tensor of its
  /// own.
  let untiesHead: Bool
  private let reader: PEFTReader
  private let tables: ChangedTables
  private let pool: ThreadPool
  private let normOffset: Float
  private let parts: [String: Part]

  /// What a tensor of the base is to the adapter.
  private enum Part {
    case projection(PEFTReader.ProjectionChange)
    case bias(PEFTReader.ProjectionChange)
    case norm(tensor: String, size: Int)
    case table(PEFTConfig.Table)
  }

  /// Values of a weight that are in memory at a time.
  private static let stripCount = 4 << 20

  /// - Parameters:
  ///   - adapter: a PEFT folder
  ///   - base: that the adapter's tables are compared with
  ///   - normOffset: what the file adds to the weights of norms
  /// - Throws: `ModelError` naming the part of the adapter that is wrong or does not fit the base
  init(adapter: URL, base: any PublishedModel, normOffset: Float = 0, pool: ThreadPool) throws {
    let reader = try PEFTReader(folder: adapter, config: base.config, scope: .all)
    let tables = try ChangedTables(reader, base: BaseTables(base))
    try Self.checkBiases(reader, base.config)
    var parts: [String: Part] = [:]
    for change in reader.changes {
      if change.lora != nil || change.scalesInput != nil { parts[change.fullName + ".weight"] = .projection(change) }
      let changesBias =
        change.bias != nil || change.scalesInput == false || reader.peft.usesLoRABias && change.lora != nil
      if changesBias, base.config.architecture.biases.contains(change.projection) {
        parts[change.fullName + ".bias"] = .bias(change)
      }
    }
    for norm in reader.others.norms {
      parts[String(norm.tensor.dropFirst(PEFTTensorName.prefix.count))] = .norm(tensor: norm.tensor, size: norm.size)
    }
    if reader.others.embedding.factors != nil || !tables.embedding.isEmpty {
      parts[Self.embedding] = .table(.embedding)
    }
    if reader.others.head.factors != nil || !tables.head.isEmpty { parts[Self.head] = .table(.head) }
    self.reader = reader
    self.tables = tables
    self.pool = pool
    self.normOffset = normOffset
    self.parts = parts
    untiesHead = try base.config.tiedHead && Self.differ(reader, tables)
  }

  /// What the adapter's configuration says of its base.
  var baseModel: String? { reader.peft.baseModel }

  /// A bias beside B becomes part of the module's own.
  private static func checkBiases(_ reader: PEFTReader, _ config: ModelConfig) throws {
    guard reader.peft.usesLoRABias else { return }
    let modules = reader.changes.filter { $0.lora != nil && !config.architecture.biases.contains($0.projection) }
    let names = modules.map(\.fullName) + (reader.others.head.factors == nil ? [] : [PEFTConfig.Table.head.rawValue])
    guard let name = names.first else { return }
    throw ModelError(
      reader.peft.file, "lora_bias", reason: "\(name) has no bias in the base, so none can be merged into it")
  }

  /// Whether the embedding and a head that is tied to it become different tables.
  private static func differ(_ reader: PEFTReader, _ tables: ChangedTables) throws -> Bool {
    let (embedding, head) = (reader.others.embedding, reader.others.head)
    if embedding.factors != nil || head.factors != nil { return true }
    guard tables.embedding.map(\.id) == tables.head.map(\.id) else { return true }
    guard let first = embedding.rows?.name, let second = head.rows?.name, first != second else { return false }
    var values = [Float](repeating: 0, count: reader.config.hiddenSize)
    var others = values
    for (own, other) in zip(tables.embedding, tables.head) {
      try reader.weights.readRow(first, own.row, into: &values)
      try reader.weights.readRow(second, other.row, into: &others)
      if values != others { return true }
    }
    return false
  }

  /// Reads a weight, changes it as the adapter does, and gives the result to `write`, whole rows at a time in the order of the
  /// file.
  /// - Parameters:
  ///   - name: Hugging Face's
  ///   - shape: [rows, columns], or [n] for a vector, which is one row
  ///   - place: the row of the file, or the element of a bias, that holds one of the projection
  ///   - read: reads rows of the file
  /// - Throws: `ModelError` naming a tensor of the adapter, or the weight if a merged value is not finite
  func copy(
    _ name: String, shape: [Int], place: (Int) -> Int = { $0 },
    read: (Range<Int>, UnsafeMutableBufferPointer<Float>) throws -> Void,
    write: (UnsafeBufferPointer<Float>) throws -> Void
  ) throws {
    let columns = shape.last ?? 1
    let rows = shape.count < 2 ? 1 : shape.dropLast().reduce(1, *)
    let change = try parts[name].map { try self.change($0, place: place) }
    let strip = max(1, Self.stripCount / max(columns, 1))
    var values = [Float](repeating: 0, count: min(strip, rows) * columns)
    for first in stride(from: 0, to: rows, by: strip) {
      let count = min(strip, rows - first)
      try values.withUnsafeMutableBufferPointer { values in
        let part = UnsafeMutableBufferPointer(rebasing: values[..<(count * columns)])
        try read(first..<first + count, part)
        if let change {
          try change.apply(to: part, firstRow: first, columns: columns, weights: reader.weights, pool: pool)
          guard part.allSatisfy(\.isFinite) else {
            throw ModelError(name, reason: "has values that are not finite, once the adapter is merged into it")
          }
        }
        try write(UnsafeBufferPointer(part))
      }
    }
  }

  // MARK: what the adapter has for a tensor

  private func change(_ part: Part, place: (Int) -> Int) throws -> WeightChange {
    var result = WeightChange()
    switch part {
    case .projection(let change):
      result.update = try change.lora.map { try update($0, place) }
      guard let scalesInput = change.scalesInput else { break }
      let factors = try reader.scaling(change)
      if scalesInput { result.columnFactors = factors } else { result.rowFactors = placed(factors, place) }
    case .bias(let change):
      let outputs = change.projection.shape(reader.config).output
      result.replacement = try change.bias.map { placed(try reader.weights.read($0, shape: [outputs]), place) }
      if change.scalesInput == false { result.columnFactors = placed(try reader.scaling(change), place) }
      if let lora = change.lora, let bias = try reader.loraBias(change.fullName, outputs: outputs) {
        result.summand = placed(bias.map { lora.scale * $0 }, place)
      }
    case .norm(let tensor, let size):
      result.replacement = try reader.weights.read(tensor, shape: [size]).map { $0 + normOffset }
    case .table(let table):
      if let rows = reader.others[table].rows {
        let changed = table == .embedding ? tables.embedding : tables.head
        result.rows = (rows.name, Dictionary(changed.map { ($0.id, $0.row) }, uniquingKeysWith: { first, _ in first }))
      }
      result.update = try reader.others[table].factors.map { try update(table, $0) }
    }
    return result
  }

  private func update(_ target: TargetedProjection, _ place: (Int) -> Int) throws -> WeightChange.Update {
    let update = try reader.update(target)
    return WeightChange.Update(
      rank: update.rank, scale: update.scale, a: update.a, b: placed(update.b, width: update.rank, place),
      magnitude: update.magnitude.map { placed($0, place) })
  }

  private func update(_ table: PEFTConfig.Table, _ factors: PEFTTargets.Table) throws -> WeightChange.Update {
    let (rank, vocabulary, hidden) = (factors.rank, reader.config.vocabularySize, reader.config.hiddenSize)
    func read(_ part: PEFTTensorName.Part, _ shape: [Int]) throws -> [Float] {
      try reader.weights.read(PEFTTensorName.name(table, part), shape: shape)
    }
    guard table == .head else {
      // The embedding has a row for each token, which is its input.
      let (a, b) = (try read(.a, [rank, vocabulary]), try read(.b, [hidden, rank]))
      return WeightChange.Update(
        rank: rank, scale: factors.scale, a: transposed(b, rows: hidden, paddedTo: hidden),
        b: transposed(a, rows: rank, paddedTo: rank), magnitude: nil)
    }
    return WeightChange.Update(
      rank: rank, scale: factors.scale, a: try read(.a, [rank, hidden]), b: try read(.b, [vocabulary, rank]),
      magnitude: reader.peft.usesDoRA ? try read(.magnitude, [vocabulary]) : nil)
  }

  /// Values in the order of the file's rows.
  private func placed(_ values: [Float], width: Int = 1, _ place: (Int) -> Int) -> [Float] {
    var result = values
    for row in 0..<values.count / width where place(row) != row {
      for index in 0..<width { result[place(row) * width + index] = values[row * width + index] }
    }
    return result
  }
}
