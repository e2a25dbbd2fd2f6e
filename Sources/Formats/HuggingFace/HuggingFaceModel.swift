public import Foundation

/// A model in a Hugging Face folder: config.json, the tokenizer's files, and weights in safetensors, in one file or
/// in shards, as numbers or quantised (`FolderQuantization`).
public struct HuggingFaceModel: PublishedModel {
  /// From config.json; the head is tied if the weights say so.
  public let config: ModelConfig
  /// The folder, in which the tokenizer's files are.
  public let tokenizer: TokenizerSource
  /// config.json, the weights and the tokenizer's files.
  public let files: [URL]

  /// The folder's model has an encoder of images, too, which is not read, and the tensors have other names there
  /// (`MultimodalNames`).
  package let isMultimodal: Bool

  private let weights: SafetensorsFolder
  private let shapes: [String: [Int]]
  private let quantized: [String: any QuantizedTensor]
  /// The folder's projections are in NF4, apart from those that are left unquantised.
  private let isNF4: Bool

  /// The files that a vocabulary can be read from. The first that is there counts.
  static let vocabularyFiles = ["tokenizer.json", "tekken.json", "tokenizer.model"]
  /// The other files that the tokenizer and the chat template are read from.
  private static let tokenizerFiles = [
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
    "chat_template.json",
  ]

  /// - Throws: `ModelError` for another architecture, for what is not supported, and for a tensor that is missing, unknown, of
  ///   the wrong shape or of a type that is no number
  public init(_ folder: URL) throws {
    let description = try HuggingFaceConfig(folder)
    let isMultimodal = description.isMultimodal
    let weights = try SafetensorsFolder(folder, naming: { isMultimodal ? MultimodalNames.textName($0) : $0 })
    var config = description.model
    // A head in the file counts, whatever the configuration says, as in transformers. A head that equals the embedding need
    // not be kept twice.
    if config.tiedHead, weights.tensor(Self.head) != nil {
      config.tiedHead = try weights.areEqual(Self.head, Self.embedding)
    }
    let shapes = config.tensorShapes()
    var quantized: [String: any QuantizedTensor] = [:]
    var known = Set(shapes.keys)
    for (name, shape) in shapes.sorted(by: { $0.key < $1.key }) {
      if shape.count == 2, let tensor = try description.quantization.tensor(name, shape: shape, in: weights) {
        quantized[name] = tensor
        known.formUnion(tensor.names)
        continue
      }
      guard let tensor = weights.tensor(name) else { throw ModelError(weights.subject(name), name, reason: "missing") }
      guard tensor.shape == shape else {
        throw ModelError(weights.subject(name), name, reason: "shape \(tensor.shape) instead of \(shape)")
      }
      guard tensor.type.isFloat else {
        throw ModelError(
          weights.subject(name), name, reason: "type \(tensor.type.rawValue) instead of \(SafetensorsType.floats)")
      }
    }
    for name in weights.names where !known.contains(name) && !Self.isHarmless(name, config: config) {
      let reason = name.hasSuffix(".bias") ? "bias tensors are not supported" : "unknown tensor"
      throw ModelError(weights.subject(name), name, reason: reason)
    }
    self.config = config
    self.weights = weights
    self.shapes = shapes
    self.quantized = quantized
    isNF4 = description.quantization.isNF4
    self.isMultimodal = isMultimodal
    tokenizer = .huggingFace(folder)
    files =
      description.files + weights.files + Self.existing(Self.vocabularyFiles, in: folder).prefix(1)
      + Self.existing(Self.tokenizerFiles, in: folder)
  }

  private static func existing(_ names: [String], in folder: URL) -> [URL] {
    names.map { folder.appendingPathComponent($0) }.filter { FileManager.default.fileExists(atPath: $0.path) }
  }

  /// Whether a tensor changes nothing: a table that follows from the configuration, or the head of a model whose head is
  /// tied to the embedding.
  private static func isHarmless(_ name: String, config: ModelConfig) -> Bool {
    name.hasSuffix("rotary_emb.inv_freq") || (config.tiedHead && name == head)
  }

  private static let head = "lm_head.weight"
  private static let embedding = "model.embed_tokens.weight"

  /// As `PublishedModel` says.
  public var notes: [String] {
    isMultimodal ? ["of a model for images and texts only the part for texts is read"] : []
  }

  /// As `PublishedModel` says.
  public func shape(of name: String) -> [Int]? { shapes[name] }

  /// As `PublishedModel` says.
  public func read(_ name: String, rows: Range<Int>, into destination: UnsafeMutableBufferPointer<Float>) throws {
    if let tensor = quantized[name] { return try tensor.read(rows: rows, into: destination) }
    guard let shape = shapes[name], let file = weights.file(of: name) else {
      throw ModelError(weights.subject(name), name, reason: "missing")
    }
    let columns = shape.last ?? 1
    let rowCount = shape.count == 1 ? 1 : shape[0]
    guard rows.lowerBound >= 0, rows.upperBound <= rowCount else {
      throw ModelError(weights.subject(name), name, reason: "rows \(rows) of \(rowCount)")
    }
    try file.readFloats(name, range: (rows.lowerBound * columns)..<(rows.upperBound * columns), into: destination)
    if let offset = config.architecture.normOffset, name.hasSuffix("norm.weight") {
      for index in destination.indices { destination[index] += offset }
    }
  }

  /// As `PublishedModel` says.
  public func storage(of name: String) -> WeightStorage {
    if quantized[name] != nil {
      // Other codes than NF4's are quantised again.
      return nf4Tensor(name).map { .nf4(blockSize: $0.blockSize) } ?? .plain
    }
    return isNF4 ? .exact : .plain
  }

  /// As `PublishedModel` says.
  public func nf4(_ name: String) throws -> NF4Tensor? { try nf4Tensor(name)?.tensor() }

  private func nf4Tensor(_ name: String) -> BitsAndBytesTensor? {
    (quantized[name] as? BitsAndBytesTensor).flatMap { $0.isNF4 ? $0 : nil }
  }
}
