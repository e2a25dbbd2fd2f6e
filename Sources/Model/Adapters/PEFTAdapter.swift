public import Foundation

/// A LoRA adapter out of a PEFT folder: adapter_config.json and adapter_model.safetensors.
public struct PEFTAdapter: Sendable {
  /// The update of one linear module: y += scale · B(Ax).
  public struct Module: Sendable, Equatable {
    public let layer: Int
    public let linear: LinearModule
    public let rank: Int
    /// α / rank, or α / √rank where the configuration says rsLoRA.
    public let scale: Float
    /// [rank, in_features]
    public let a: [Float]
    /// [out_features, rank]
    public let b: [Float]
    /// DoRA's magnitudes, [out_features]: the row norms that W + scale · BA is brought to.
    public let magnitude: [Float]?
  }

  /// In the order of layers, then of `LinearModule.allCases`.
  public let modules: [Module]
  /// Every module has a magnitude vector.
  public let usesDoRA: Bool
  public let usesRSLoRA: Bool
  /// The configuration's own rank and alpha, which patterns may override for some modules.
  public let rank: Int
  public let alpha: Double
  /// The configuration's `base_model_name_or_path`.
  public let baseModel: String?

  /// Reads the whole adapter or refuses it.
  ///
  /// Throws `ModelError` naming the field of the configuration or the tensor: for what is not supported, for a tensor that
  /// is unknown, missing, of the wrong shape or not finite.
  public static func read(folder: URL, config: ModelConfig) throws -> PEFTAdapter {
    let reader = try PEFTReader(folder: folder, config: config)
    let peft = reader.peft
    return PEFTAdapter(
      modules: try reader.targets.map(reader.module), usesDoRA: peft.usesDoRA, usesRSLoRA: peft.usesRSLoRA,
      rank: peft.rank, alpha: peft.alpha, baseModel: peft.baseModel)
  }
}

/// A PEFT folder whose tensors are there under the right names: its modules are read one by one, so that whoever
/// converts them never holds more than one of them in f32.
struct PEFTReader {
  let peft: PEFTConfig
  let targets: [PEFTModules.Target]
  private let config: ModelConfig
  private let weights: PEFTWeights

  private static let configLimit = 4 << 20

  init(folder: URL, config: ModelConfig) throws {
    let text = try MappedFile.contents(
      of: folder.appendingPathComponent("adapter_config.json"), limit: Self.configLimit)
    peft = try PEFTConfig(text, file: "adapter_config.json")
    targets = try PEFTModules(peft, config: config).targets
    self.config = config
    let file = folder.appendingPathComponent("adapter_model.safetensors")
    if !FileManager.default.fileExists(atPath: file.path),
      FileManager.default.fileExists(atPath: folder.appendingPathComponent("adapter_model.bin").path)
    {
      throw ModelError("adapter_model.bin", reason: "pickle files are not read; convert to safetensors")
    }
    weights = PEFTWeights(file: try SafetensorsFile(file), usesDoRA: peft.usesDoRA)
    try weights.checkNames(targets)
  }

  /// α / rank, or α / √rank for rsLoRA.
  func scale(_ target: PEFTModules.Target) throws -> Float {
    let divisor = peft.usesRSLoRA ? Double(target.rank).squareRoot() : Double(target.rank)
    let scale = Float(target.alpha / divisor)
    guard scale.isFinite else {
      throw ModelError("adapter_config.json", "lora_alpha", reason: "\(target.alpha) is out of range")
    }
    return scale
  }

  func module(_ target: PEFTModules.Target) throws -> PEFTAdapter.Module {
    let shape = target.linear.shape(config)
    return PEFTAdapter.Module(
      layer: target.layer, linear: target.linear, rank: target.rank, scale: try scale(target),
      a: try weights.read(target, .a, shape: [target.rank, shape.input]),
      b: try weights.read(target, .b, shape: [shape.output, target.rank]),
      magnitude: peft.usesDoRA ? try weights.read(target, .magnitude, shape: [shape.output]) : nil)
  }
}

/// The tensors of an adapter_model.safetensors.
private struct PEFTWeights {
  enum Part: String, CaseIterable {
    case a = "lora_A.weight"
    case b = "lora_B.weight"
    case magnitude = "lora_magnitude_vector"
  }

  let file: SafetensorsFile
  let usesDoRA: Bool

  private var subject: String { file.url.lastPathComponent }
  private var parts: [Part] { usesDoRA ? Part.allCases : [.a, .b] }

  private func name(_ target: PEFTModules.Target, _ part: Part) -> String {
    "base_model.model.\(target.linear.fullName(layer: target.layer)).\(part.rawValue)"
  }

  /// What is there must be exactly what the configuration targets.
  func checkNames(_ targets: [PEFTModules.Target]) throws {
    var wanted: Set<String> = []
    for target in targets {
      for part in parts { wanted.insert(name(target, part)) }
    }
    // A missing tensor usually has an unknown one for its cause, which says more.
    for name in file.tensors.keys.sorted() where !wanted.contains(name) {
      throw ModelError(subject, name, reason: "unexpected: the configuration does not target it")
    }
    for name in wanted.sorted() where file.tensors[name] == nil {
      throw ModelError(subject, name, reason: "missing, although the configuration targets its module")
    }
  }

  func read(_ target: PEFTModules.Target, _ part: Part, shape: [Int]) throws -> [Float] {
    let name = name(target, part)
    let tensor = try file.tensor(name)
    guard tensor.shape == shape else {
      throw ModelError(subject, name, reason: "shape \(tensor.shape) instead of \(shape)")
    }
    let values = try file.floats(name)
    guard FloatConversion.areFinite(values) else {
      throw ModelError(subject, name, reason: "has values that are not finite")
    }
    return values
  }
}
