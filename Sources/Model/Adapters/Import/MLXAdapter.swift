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
    for (name, shape) in Self.modules(config) where rest.remove(name + ".lora_a") != nil {
      let isEmbedding = name == PEFTConfig.Table.embedding.rawValue
      if isEmbedding, config.tiedHead || type == "dora" {
        throw ModelError(
          file.url.lastPathComponent, name, reason: "is not supported with \(type == "dora" ? "dora" : "a tied head")")
      }
      // Of the embedding, the "input" is a token.
      let (input, output) = isEmbedding ? (shape.output, shape.input) : (shape.input, shape.output)
      let a = try file.tensor(name + ".lora_a")
      let b = try file.tensor(name + ".lora_b")
      rest.remove(b.name)
      let rank = a.shape.last ?? 0
      guard a.shape == [input, rank], b.shape == [rank, output], 1...PEFTConfig.maximumRank ~= rank else {
        throw ModelError(
          file.url.lastPathComponent, a.name,
          reason: "shapes \(a.shape) and \(b.shape) instead of [\(input), rank] and [rank, \(output)]")
      }
      var module = PlainFactors.Module(
        name: name, rank: rank, alpha: scale * Double(rank), columns: input, outputs: output,
        a: { Self.transposed(try file.floats(a.name), rows: input) },
        b: { Self.transposed(try file.floats(b.name), rows: rank) })
      if type == "dora" {
        let magnitude = try file.tensor(name + ".m")
        rest.remove(magnitude.name)
        guard magnitude.shape == [output] else {
          throw ModelError(
            file.url.lastPathComponent, magnitude.name, reason: "shape \(magnitude.shape) instead of [\(output)]")
        }
        module.magnitude = { try file.floats(magnitude.name) }
      }
      modules.append(module)
    }
    if let name = rest.min() {
      throw ModelError(file.url.lastPathComponent, name, reason: "is no factor of a module of the base")
    }
    guard !modules.isEmpty else { throw ModelError(file.url.lastPathComponent, reason: "has no factors") }
    factors = PlainFactors(modules: modules)
  }

  /// Names and shapes of the modules that can have factors.
  private static func modules(_ config: ModelConfig) -> [(String, (output: Int, input: Int))] {
    PEFTConfig.Table.allCases.map { ($0.rawValue, (output: config.vocabularySize, input: config.hiddenSize)) }
      + (0..<config.layerCount).flatMap { layer in
        config.projections.map { ($0.fullName(layer: layer), $0.shape(config)) }
      }
  }

  private static func transposed(_ values: [Float], rows: Int) -> [Float] {
    let columns = values.count / rows
    var out = [Float](repeating: 0, count: values.count)
    for row in 0..<rows { for column in 0..<columns { out[column * rows + row] = values[row * columns + column] } }
    return out
  }
}
