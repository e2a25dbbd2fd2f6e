public import Foundation

/// A model in a GGUF file, or in the parts that a GGUF file was split into. Tensors have their Hugging Face names
/// here, and the rows of q and k are in Hugging Face's order, which GGUF permutes for its own rotary embedding in some
/// architectures.
public struct GGUFModel: PublishedModel {
  /// From the metadata.
  public let config: ModelConfig
  /// From the metadata.
  public let tokenizer: TokenizerSource
  /// The file, or its parts in order.
  public var files: [URL] { shards.files.map(\.url) }
  /// Those of the vocabulary.
  public var notes: [String] { tokenizer.notes }

  let shards: GGUFShards
  private let shapes: [String: [Int]]
  /// Each tensor's name in the file, by its Hugging Face name.
  private let names: [String: String]
  private let permutesQueriesAndKeys: Bool

  /// - Parameter url: the file, or any of its parts
  /// - Throws: `ModelError` for another architecture, for what its models do not have (experts), and for a tensor
  ///   that is missing, unknown, of the wrong shape or of a type that cannot be read
  public init(_ url: URL) throws {
    let shards = try GGUFShards(url)
    let metadata = GGUFMetadata(shards)
    let vocabulary = try metadata.vocabulary()
    let config = try metadata.config(vocabulary: vocabulary)
    let shapes = config.tensorShapes()
    let names = Dictionary(
      uniqueKeysWithValues: shapes.keys.map { ($0, GGUFNames.fileName(of: $0, config.architecture)) })
    try Self.checkTensors(shards, names: names, shapes: shapes)
    self.shards = shards
    self.config = config
    self.shapes = shapes
    self.names = names
    self.tokenizer = .gguf(vocabulary)
    permutesQueriesAndKeys = metadata.family?.permutesQueriesAndKeys ?? false
  }

  private static func checkTensors(_ shards: GGUFShards, names: [String: String], shapes: [String: [Int]]) throws {
    for name in names.keys.sorted() {
      guard let fileName = names[name], let shape = shapes[name] else { continue }
      guard let tensor = shards.tensors[fileName] else {
        throw ModelError(shards.first.name, fileName, reason: "missing")
      }
      guard tensor.type.block != nil else {
        throw ModelError(shards.subject(fileName), fileName, reason: "type \(tensor.type) is not supported")
      }
      guard tensor.shape == shape else {
        throw ModelError(shards.subject(fileName), fileName, reason: "shape \(tensor.shape) instead of \(shape)")
      }
    }
    let known = Set(names.values).union(GGUFNames.frequencies)
    for name in shards.tensors.keys.sorted() where !known.contains(name) && !GGUFNames.isHarmless(name) {
      let reason =
        name.hasSuffix(".bias")
        ? "bias tensors are not supported"
        : name.contains("_exps") || name.contains("_gate_inp")
          ? "mixtures of experts are not supported" : "unknown tensor"
      throw ModelError(shards.subject(name), name, reason: reason)
    }
  }

  /// As `PublishedModel` says.
  public func shape(of name: String) -> [Int]? { shapes[name] }

  /// As `PublishedModel` says.
  public func read(_ name: String, rows: Range<Int>, into destination: UnsafeMutableBufferPointer<Float>) throws {
    guard let fileName = names[name], let shape = shapes[name] else {
      throw ModelError(shards.first.name, name, reason: "missing")
    }
    guard let heads = permutedHeads(name) else {
      try shards.readRows(fileName, rows: rows, into: destination)
      return
    }
    guard shape.count == 2 else {
      // A bias is one row, whose elements are in the order of the matrix's rows.
      var stored = [Float](repeating: 0, count: shape[0])
      try stored.withUnsafeMutableBufferPointer { try shards.readRows(fileName, rows: rows, into: $0) }
      for row in 0..<shape[0] { destination[row] = stored[Self.permutedRow(row, headSize: shape[0] / heads)] }
      return
    }
    let columns = shape[1]
    guard rows.lowerBound >= 0, rows.upperBound <= shape[0], destination.count >= rows.count * columns else {
      throw ModelError(shards.subject(fileName), fileName, reason: "rows \(rows) of \(shape[0])")
    }
    let headSize = shape[0] / heads
    for (index, row) in rows.enumerated() {
      let source = Self.permutedRow(row, headSize: headSize)
      let target = UnsafeMutableBufferPointer(rebasing: destination[(index * columns)..<((index + 1) * columns)])
      try shards.readRows(fileName, rows: source..<(source + 1), into: target)
    }
  }

  /// How many heads the rows of a permuted matrix make; `nil` for a matrix that GGUF does not permute.
  private func permutedHeads(_ name: String) -> Int? {
    guard permutesQueriesAndKeys else { return nil }
    if name.contains(".self_attn.q_proj.") { return config.headCount }
    if name.contains(".self_attn.k_proj.") { return config.keyValueHeadCount }
    return nil
  }

  /// The row of GGUF's q or k that holds a row of Hugging Face's. Hugging Face rotates element i of a head together with
  /// element i + headSize / 2; GGUF interleaves the rows so that the two are neighbours.
  static func permutedRow(_ row: Int, headSize: Int) -> Int {
    let (head, element) = row.quotientAndRemainder(dividingBy: headSize)
    let (half, index) = element.quotientAndRemainder(dividingBy: headSize / 2)
    return head * headSize + index * 2 + half
  }
}

/// GGUF's names of the tensors that Hugging Face names otherwise.
enum GGUFNames {
  /// - Parameter name: Hugging Face's
  static func fileName(of name: String, _ architecture: Architecture = Architecture()) -> String {
    switch name {
    case "model.embed_tokens.weight": return "token_embd.weight"
    case "model.norm.weight": return "output_norm.weight"
    case "lm_head.weight": return "output.weight"
    default: break
    }
    let parts = name.split(separator: ".")
    guard parts.count >= 5, parts[1] == "layers", let kind = parts.last else { return name }
    let module = parts[3..<(parts.count - 1)].joined(separator: ".")
    let norm = LayerNorm.allCases.first { architecture.name(of: $0) == module }
    return "blk.\(parts[2]).\(norm.flatMap { norms[$0] } ?? modules[module] ?? module).\(kind)"
  }

  private static let norms: [LayerNorm: String] = [
    .attentionInput: "attn_norm", .attentionOutput: "post_attention_norm", .feedForwardInput: "ffn_norm",
    .feedForwardOutput: "post_ffw_norm", .queries: "attn_q_norm", .keys: "attn_k_norm",
  ]

  private static let modules = [
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.gate_up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
  ]

  /// The tensors that scale the frequencies of the rotary embedding.
  static let frequencies = ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"]

  /// Whether a tensor is a table that follows from the configuration; old converters wrote those.
  static func isHarmless(_ name: String) -> Bool { name.hasSuffix(".attn_rot_embd.weight") }
}
