public import Foundation
import Formats

/// Writes an adapter in the forms that other programs read. Every form appears whole or not at all, and nothing that exists
/// is replaced.
public enum AdapterExport {
  /// Copies a PEFT folder's two files.
  /// - Parameter folder: does not exist, or is empty
  /// - Throws: `ModelError` naming what is wrong with the adapter, or the path that cannot be written
  public static func writePEFT(_ adapter: URL, to folder: URL) throws {
    if let problem = PEFTInspection(folder: adapter).problems.first {
      throw ModelError(adapter.lastPathComponent, reason: problem)
    }
    let target = try AtomicFolder(folder)
    for name in AdapterContents.fileNames { try target.copy(adapter.appending(path: name)) }
    try target.finish()
  }
}

/// The low-rank factors of an adapter that has nothing else, for the forms that can express nothing else.
struct ExportedFactors {
  /// The factors of one projection, of the embedding or of the head.
  struct Module {
    /// "model.layers.3.self_attn.q_proj", "model.embed_tokens" or "lm_head".
    let name: String
    /// `nil` for the embedding and the head.
    let projection: Projection?
    let rank: Int
    let alpha: Double
    /// α/r, or α/√r for rsLoRA.
    let scale: Float
    /// Of A, which has `rank` rows.
    let columns: Int
    /// Rows of B, which has `rank` columns.
    let outputs: Int

    var isEmbedding: Bool { name == PEFTConfig.Table.embedding.rawValue }
  }

  /// The embedding, projections in the order of a forward pass, the head.
  let modules: [Module]
  let reader: PEFTReader
  var usesDoRA: Bool { reader.peft.usesDoRA }
  var usesRSLoRA: Bool { reader.peft.usesRSLoRA }

  /// - Parameters:
  ///   - config: the base's
  ///   - tables: the base's, read if the adapter has tables of its own, which may be equal
  ///   - form: how errors call the form's adapters
  /// - Throws: `ModelError` naming the part of the adapter that is wrong, or that low-rank factors cannot express
  init(_ adapter: URL, config: ModelConfig, tables: () throws -> BaseTables, form: String) throws {
    let reader = try PEFTReader(folder: adapter, config: config, scope: .all)
    try Self.check(reader, tables, form: form)
    func module(_ table: PEFTConfig.Table) -> Module? {
      reader.others[table].factors.map {
        let (vocabulary, hidden) = (config.vocabularySize, config.hiddenSize)
        // Of the embedding, the input is a token.
        let (columns, outputs) = table == .embedding ? (vocabulary, hidden) : (hidden, vocabulary)
        return Module(
          name: table.rawValue, projection: nil, rank: $0.rank, alpha: $0.alpha, scale: $0.scale, columns: columns,
          outputs: outputs)
      }
    }
    let projections = reader.projections.map { target in
      let shape = target.projection.shape(config)
      return Module(
        name: target.projection.fullName(layer: target.layer), projection: target.projection, rank: target.rank,
        alpha: target.alpha, scale: target.scale, columns: shape.input, outputs: shape.output)
    }
    modules = [module(.embedding)].compactMap { $0 } + projections + [module(.head)].compactMap { $0 }
    self.reader = reader
  }

  private static func check(_ reader: PEFTReader, _ tables: () throws -> BaseTables, form: String) throws {
    let peft = reader.peft
    func failure(_ field: String, _ what: String) -> ModelError {
      ModelError(peft.file, field, reason: "\(form) have no \(what); merge the adapter instead")
    }
    guard peft.method == .lora else { throw failure("peft_type", "IA3 scalings") }
    if peft.usesLoRABias { throw failure("lora_bias", "biases") }
    if !reader.others.norms.isEmpty { throw failure("modules_to_save", "norms") }
    if reader.changes.contains(where: { $0.bias != nil }) { throw failure("bias", "biases") }
    guard PEFTConfig.Table.allCases.contains(where: { reader.others[$0].rows != nil }) else { return }
    let changed = try ChangedTables(reader, base: tables())
    guard changed.embedding.isEmpty, changed.head.isEmpty else {
      throw failure(
        peft.tokens.isEmpty ? "modules_to_save" : "trainable_token_indices", "whole rows of the embedding or the head")
    }
  }

  /// Refuses factors of the embedding and of the head that a form takes for one table's.
  func checkTables(_ config: ModelConfig, form: String) throws {
    guard config.tiedHead, let module = modules.first(where: { $0.projection == nil }) else { return }
    throw ModelError(
      reader.peft.file, "target_modules",
      reason: "\(module.name) is targeted, and \(form) cannot tell the embedding from a head that is tied to it; "
        + "merge the adapter instead")
  }

  /// A, [rank, columns].
  func a(_ module: Module) throws -> [Float] {
    try reader.weights.read(PEFTTensorName.name(module: module.name, .a), shape: [module.rank, module.columns])
  }

  /// B, [outputs, rank].
  func b(_ module: Module) throws -> [Float] {
    try reader.weights.read(PEFTTensorName.name(module: module.name, .b), shape: [module.outputs, module.rank])
  }

  /// DoRA's, [outputs].
  func magnitude(_ module: Module) throws -> [Float] {
    try reader.weights.read(PEFTTensorName.name(module: module.name, .magnitude), shape: [module.outputs])
  }
}

/// The one scale of a form that has no scale for each update. What an update's own scale differs by goes into its B.
struct CommonScale {
  /// What the form is given.
  let value: Float
  private let own: (ExportedFactors.Module) -> Double

  /// - Parameter own: a module's own value; it is part of all of the form's values as a factor
  init(_ modules: [ExportedFactors.Module], own: @escaping (ExportedFactors.Module) -> Double) {
    value = modules.lazy.map { Float(own($0)) }.first { $0 != 0 } ?? 1
    self.own = own
  }

  /// B of a module that the form multiplies with the common scale.
  func b(_ values: [Float], of module: ExportedFactors.Module) -> [Float] {
    let own = own(module)
    if Float(own) == value { return values }
    let factor = Float(own / Double(value))
    return values.map { $0 * factor }
  }
}

/// A matrix, turned.
/// - Parameters:
///   - rows: of `values`
///   - width: of the result's rows, which have zeros at their ends
func transposed(_ values: [Float], rows: Int, paddedTo width: Int) -> [Float] {
  let columns = values.count / rows
  var result = [Float](repeating: 0, count: columns * width)
  for row in 0..<rows {
    for column in 0..<columns { result[column * width + row] = values[row * columns + column] }
  }
  return result
}
