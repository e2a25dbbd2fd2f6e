public import Foundation

/// A LoRA adapter in GGUF, as llama.cpp's convert_lora_to_gguf.py writes it. Modules have their Hugging Face names here, and
/// the rows of q and k are in Hugging Face's order.
public struct GGUFAdapter: Sendable {
  /// The factors of one module.
  public struct Module: Sendable, Equatable {
    /// "model.layers.3.self_attn.q_proj", "model.embed_tokens" or "lm_head".
    public let name: String
    /// Rows of A, columns of B.
    public let rank: Int
    /// Columns of A.
    public let columns: Int
    /// Rows of B.
    public let outputs: Int
    fileprivate let tensor: String
    /// Heads whose rows are permuted; `nil` for rows in order.
    fileprivate let heads: Int?
    fileprivate var isEmbedding: Bool { name == "model.embed_tokens" }
  }

  /// α, by which an update is multiplied after division by its rank; 0 for updates that are added as they are.
  public let alpha: Double
  /// The modules that have factors, by name.
  public let modules: [Module]
  private let file: GGUFFile

  /// - Parameter config: the base's
  /// - Throws: `ModelError` naming the file, and the key or the tensor that is wrong, unknown or of another base
  public init(_ url: URL, config: ModelConfig) throws {
    let file = try GGUFFile(url)
    func failure(_ key: String, _ reason: String) -> ModelError { ModelError(file.name, key, reason: reason) }
    guard file.metadata["general.type"] == .string("adapter") else {
      throw failure("general.type", "is not adapter: the file is no adapter")
    }
    guard file.metadata["adapter.type"] == .string("lora") else {
      throw failure("adapter.type", "is not lora, which is the only one supported")
    }
    guard file.metadata["adapter.alora.invocation_tokens"] == nil else {
      throw failure("adapter.alora.invocation_tokens", "is not supported")
    }
    switch file.metadata["adapter.lora.alpha"] {
    case .float(let value) where value.isFinite: alpha = value
    case .integer(let value): alpha = Double(value)
    default: throw failure("adapter.lora.alpha", "is not a number")
    }
    guard case .string(let architecture) = file.metadata["general.architecture"],
      let family = GGUFFamily.all[architecture]
    else { throw failure("general.architecture", "is missing or not supported") }
    let own = GGUFLayout(config).architecture
    guard architecture == own || GGUFFamily.all[own]?.hasTensors(of: family) == true else {
      throw failure("general.architecture", "is \(architecture), and the base's is \(own)")
    }

    var rest = Set(file.tensors.keys)
    modules = try Self.names(config).compactMap { name, shape -> Module? in
      let tensor = GGUFNames.fileName(of: name + ".weight", config.architecture)
      guard rest.remove(tensor + ".lora_a") != nil else { return nil }
      rest.remove(tensor + ".lora_b")
      let heads =
        name.hasSuffix(".q_proj") ? config.headCount : name.hasSuffix(".k_proj") ? config.keyValueHeadCount : nil
      return try Self.module(
        file, name, tensor: tensor, shape: shape, heads: family.permutesQueriesAndKeys ? heads : nil)
    }
    if let name = rest.min() { throw failure(name, "is no factor of a module of the base") }
    guard !modules.isEmpty else { throw ModelError(file.name, reason: "has no factors") }
    self.file = file
  }

  /// Names and shapes of the modules that can have factors.
  private static func names(_ config: ModelConfig) -> [(String, (output: Int, input: Int))] {
    let tables = ["model.embed_tokens", "lm_head"].map {
      ($0, (output: config.vocabularySize, input: config.hiddenSize))
    }
    return tables
      + (0..<config.layerCount).flatMap { layer in
        config.projections.map { ($0.fullName(layer: layer), $0.shape(config)) }
      }
  }

  private static func module(
    _ file: GGUFFile, _ name: String, tensor: String, shape: (output: Int, input: Int), heads: Int?
  ) throws -> Module {
    guard let a = file.tensors[tensor + ".lora_a"], let b = file.tensors[tensor + ".lora_b"] else {
      throw ModelError(file.name, tensor + ".lora_b", reason: "missing")
    }
    // The embedding is looked up, not multiplied: its A is stored token by token, and its B gives hidden states.
    let isEmbedding = name == "model.embed_tokens"
    let rank = b.shape.last ?? 0
    let (columns, outputs) = isEmbedding ? (shape.output, shape.input) : (shape.input, shape.output)
    guard rank > 0, b.shape == [outputs, rank] else {
      throw ModelError(file.name, b.name, reason: "shape \(b.shape) instead of [\(outputs), rank]")
    }
    let wanted = isEmbedding ? [columns, rank] : [rank, columns]
    guard a.shape == wanted else {
      throw ModelError(file.name, a.name, reason: "shape \(a.shape) instead of \(wanted)")
    }
    return Module(name: name, rank: rank, columns: columns, outputs: outputs, tensor: tensor, heads: heads)
  }

  /// A of a module, [rank][columns].
  /// - Throws: `ModelError` for a type that cannot be read
  public func a(_ module: Module) throws -> [Float] {
    let values = try read(module.tensor + ".lora_a", module.rank * module.columns)
    guard module.isEmbedding else { return values }
    return (0..<module.rank * module.columns).map { index in
      let (row, column) = index.quotientAndRemainder(dividingBy: module.columns)
      return values[column * module.rank + row]
    }
  }

  /// B of a module, [outputs][rank].
  /// - Throws: `ModelError` for a type that cannot be read
  public func b(_ module: Module) throws -> [Float] {
    let values = try read(module.tensor + ".lora_b", module.outputs * module.rank)
    guard let heads = module.heads else { return values }
    return Self.unpermuted(values, heads: heads, outputs: module.outputs)
  }

  /// Rows in Hugging Face's order of the rotary embedding, from the order in which pairs are neighbours.
  /// - Parameters:
  ///   - values: [outputs][any]
  ///   - heads: that the outputs belong to; the size of a head is even
  public static func unpermuted(_ values: [Float], heads: Int, outputs: Int) -> [Float] {
    let columns = values.count / outputs
    return (0..<outputs).flatMap { row in
      let source = GGUFModel.permutedRow(row, headSize: outputs / heads)
      return values[source * columns..<(source + 1) * columns]
    }
  }

  private func read(_ name: String, _ count: Int) throws -> [Float] {
    guard let tensor = file.tensors[name] else { throw ModelError(file.name, name, reason: "missing") }
    var values = [Float](repeating: 0, count: count)
    try values.withUnsafeMutableBufferPointer { try file.readRows(name, rows: 0..<tensor.rows, into: $0) }
    guard FloatConversion.areFinite(values) else {
      throw ModelError(file.name, name, reason: "has values that are not finite")
    }
    return values
  }
}
