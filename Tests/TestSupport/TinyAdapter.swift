public import Formats
public import Foundation
import Model

/// A made-up LoRA adapter: what was written of it, and where.
public struct TinyAdapter {
  public struct Module {
    public var layer: Int
    public var projection: Projection
    public var rank: Int
    /// α / r, in full precision.
    public var scale: Double
    /// [rank, in_features]
    public var a: [Float]
    /// [out_features, rank]
    public var b: [Float]
  }

  public let name: String
  public let folder: URL
  public let modules: [Module]
}

extension TinyModel {
  /// Writes a PEFT folder.
  /// - Parameters:
  ///   - ranks: of each targeted module
  ///   - parent: `adaptersFolder` unless told otherwise
  public func writeAdapter(
    _ name: String, ranks: [Projection: Int], alpha: Double = 16, seed: UInt64, usesDoRA: Bool = false,
    in parent: URL? = nil
  ) throws -> TinyAdapter {
    let config = try source().config
    let folder = (parent ?? adaptersFolder).appending(path: name)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    var random = TinyRandom(seed: seed)
    var modules: [TinyAdapter.Module] = []
    var tensors: [(name: String, shape: [Int], values: [Float])] = []
    for layer in 0..<config.layerCount {
      for projection in Projection.separate {
        guard let rank = ranks[projection] else { continue }
        let size = projection.shape(config)
        let module = TinyAdapter.Module(
          layer: layer, projection: projection, rank: rank, scale: alpha / Double(rank),
          a: random.values(rank * size.input, scale: 1 / Float(size.input).squareRoot()),
          b: random.values(size.output * rank, scale: 0.3))
        let prefix = "base_model.model.\(projection.fullName(layer: layer))."
        tensors.append((prefix + "lora_A.weight", [rank, size.input], module.a))
        tensors.append((prefix + "lora_B.weight", [size.output, rank], module.b))
        if usesDoRA {
          let magnitude = random.values(size.output, scale: 0.5).map { 2 + $0 }
          tensors.append((prefix + "lora_magnitude_vector", [size.output], magnitude))
        }
        modules.append(module)
      }
    }
    let names = ranks.keys.map { "\"\($0.shortName)\"" }.sorted().joined(separator: ",")
    let pattern = ranks.map { "\"\($0.key.shortName)\":\($0.value)" }.sorted().joined(separator: ",")
    let json = """
      {"peft_type":"LORA","r":8,"lora_alpha":\(alpha),"target_modules":[\(names)],"rank_pattern":{\(pattern)},\
      "task_type":"CAUSAL_LM","bias":"none","use_dora":\(usesDoRA)}
      """
    try Data(json.utf8).write(to: folder.appending(path: "adapter_config.json"))
    try SafetensorsWriter.write(tensors, to: folder.appending(path: "adapter_model.safetensors"))
    return TinyAdapter(name: name, folder: folder, modules: modules)
  }
}
