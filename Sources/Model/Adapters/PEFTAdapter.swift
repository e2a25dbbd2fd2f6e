public import Formats
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

  /// - Parameter base: what saved copies of its embedding and head are compared with; without it they are refused
  init(folder: URL, config: ModelConfig, base: Base? = nil) throws {
    try PEFTFolder.check(folder)
    let text = try MappedFile.contents(
      of: folder.appendingPathComponent("adapter_config.json"), limit: Self.configLimit)
    peft = try PEFTConfig(text, file: "adapter_config.json")
    targets = try PEFTModules(peft, config: config).targets
    self.config = config
    try PEFTFolder.checkWeights(folder)
    let file = try SafetensorsFile(folder.appendingPathComponent("adapter_model.safetensors"))
    weights = try PEFTWeights(file, usesDoRA: peft.usesDoRA)
    try weights.checkNames(targets)
    try weights.checkCopies(of: base)
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

  /// What is wrong with a module's tensors.
  func failure(_ target: PEFTModules.Target, _ reason: String) -> ModelError {
    ModelError(weights.subject, target.linear.fullName(layer: target.layer), reason: reason)
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
