import Formats
import Foundation

/// An adapter as MLX-LM saves it: factors transposed, y += scale · (x · A) · B, with one scale for all modules.
struct MLXAdapter {
  let factors: PlainFactors

  private static let configurationLimit = 4 << 20

  /// - Parameter config: the base's
  /// - Throws: `ModelError` naming the field or tensor that is wrong or not supported
  init(_ folder: URL, config: ModelConfig) throws {
    let fields = try HuggingFaceFields(
      folder.appending(path: PEFTFolder.configurationFile), limit: Self.configurationLimit)
    let type = try fields.string("fine_tune_type") ?? "lora"
    guard type == "lora" || type == "dora" else {
      throw fields.failure("fine_tune_type", "\(type) is not supported, only lora and dora")
    }
    guard let parameters = fields.object["lora_parameters"]?.object else {
      throw fields.failure("lora_parameters", "is not an object")
    }
    guard let scale = parameters["scale"]?.double, scale.isFinite else {
      throw fields.failure("lora_parameters", "has no scale")
    }
    let file = try SafetensorsFile(folder.appending(path: AdapterImport.mlxFile))
    var rest = Set(file.tensors.keys)
    var modules: [PlainFactors.Module] = []
    // In a model for images and texts the language model is a part.
    let prefix = rest.contains { $0.hasPrefix("language_model.") } ? "language_model." : ""
    for (module, shape) in Self.modules(config) where rest.remove(prefix + module + ".lora_a") != nil {
      let name = prefix + module
      let isEmbedding = module == PEFTConfig.Table.embedding.rawValue
      if isEmbedding, type == "dora" {
        throw ModelError(file.url.lastPathComponent, name, reason: "is not supported with dora")
      }
      // Of the embedding, the "input" is a token.
      let (input, output) = isEmbedding ? (shape.output, shape.input) : (shape.input, shape.output)
      let a = try file.tensor(name + ".lora_a")
      let b = try file.tensor(name + ".lora_b")
      rest.remove(b.name)
      let rank = a.shape.last ?? 0
      guard a.shape == [input, rank], b.shape == [rank, output], 1...PEFTConfig.maximumServedRank ~= rank else {
        throw ModelError(
          file.url.lastPathComponent, a.name,
          reason: "shapes \(a.shape) and \(b.shape) instead of [\(input), rank] and [rank, \(output)]")
      }
      let alpha = scale * Double(rank)
      var factors = PlainFactors.Module(
        name: module, rank: rank, alpha: alpha, columns: input, outputs: output,
        a: { transposed(try file.floats(a.name), rows: input, paddedTo: input) },
        b: { transposed(try file.floats(b.name), rows: rank, paddedTo: rank) })
      if type == "dora" {
        let magnitude = try file.tensor(name + ".m")
        rest.remove(magnitude.name)
        guard magnitude.shape == [output] else {
          throw ModelError(
            file.url.lastPathComponent, magnitude.name, reason: "shape \(magnitude.shape) instead of [\(output)]")
        }
        factors.magnitude = { try file.floats(magnitude.name) }
      }
      modules.append(factors)
      guard isEmbedding, config.tiedHead else { continue }
      let head = prefix + PEFTConfig.Table.head.rawValue + ".lora_a"
      guard file.tensors[head] == nil else {
        throw ModelError(
          file.url.lastPathComponent, head,
          reason: "the head is tied to the embedding, whose factors are its own, too; it can have no others")
      }
      // MLX-LM computes a tied head with the embedding's factors, turned round: y += scale · (x · Bᵀ) · Aᵀ.
      modules.append(
        PlainFactors.Module(
          name: PEFTConfig.Table.head.rawValue, rank: rank, alpha: alpha, columns: output, outputs: input,
          a: { try file.floats(b.name) }, b: { try file.floats(a.name) }))
    }
    if let name = rest.min() {
      throw ModelError(file.url.lastPathComponent, name, reason: "is no factor of a module of the base")
    }
    guard !modules.isEmpty else { throw ModelError(file.url.lastPathComponent, reason: "has no factors") }
    factors = PlainFactors(modules: modules)
  }

  /// Old versions of MLX-LM multiplied with alpha / rank, too; today's reads the scale alone.
  static func notes(_ folder: URL) -> [String] {
    let url = folder.appending(path: PEFTFolder.configurationFile)
    let fields = try? HuggingFaceFields(url, limit: configurationLimit)
    guard let alpha = fields?.object["lora_parameters"]?.object?["alpha"], !alpha.isNull else { return [] }
    return ["lora_parameters.alpha is not used, only the scale, as in today's MLX-LM"]
  }

  /// Names and shapes of the modules that can have factors.
  private static func modules(_ config: ModelConfig) -> [(String, (output: Int, input: Int))] {
    PEFTConfig.Table.allCases.map { ($0.rawValue, (output: config.vocabularySize, input: config.hiddenSize)) }
      + (0..<config.layerCount).flatMap { layer in
        config.projections.map { ($0.fullName(layer: layer), $0.shape(config)) }
      }
  }
}
