public import Formats
public import Foundation

/// A LoRA adapter read from a PEFT folder, in f32. Training continues from it.
public struct PEFTAdapter: Sendable {
  /// The update of one projection: y += scale · B(Ax).
  public struct Update: Sendable, Equatable {
    /// The decoder layer, from 0.
    public let layer: Int
    /// Which projection of the layer.
    public let projection: Projection
    /// The rows of `a`.
    public let rank: Int
    /// α / rank, or α / √rank where the configuration says rsLoRA.
    public let scale: Float
    /// [rank, in_features]
    public let a: [Float]
    /// [out_features, rank]
    public let b: [Float]
    /// DoRA's magnitudes, [out_features]: row i of W + scale · BA is scaled to the norm magnitude[i]. `nil` without DoRA.
    public let magnitude: [Float]?
  }

  /// In the order of layers, then of `ModelConfig.projections`.
  public let updates: [Update]
  /// Every update has magnitudes.
  public let usesDoRA: Bool
  /// Scales are α / √rank (`use_rslora`).
  public let usesRSLoRA: Bool
  /// The configuration's `r`, which `rank_pattern` may override for some projections.
  public let rank: Int
  /// The configuration's `lora_alpha`, which `alpha_pattern` may override for some projections.
  public let alpha: Double
  /// The configuration's `base_model_name_or_path`.
  public let baseModel: String?

  /// Reads the whole adapter or refuses it.
  /// - Parameter config: the base's
  /// - Throws: `ModelError` naming the field of the configuration or the tensor: for what is not supported, for a tensor
  ///   that is unknown, missing, of the wrong shape or not finite
  public static func read(folder: URL, config: ModelConfig) throws -> PEFTAdapter {
    let reader = try PEFTReader(folder: folder, config: config)
    let peft = reader.peft
    return PEFTAdapter(
      updates: try reader.projections.map(reader.update), usesDoRA: peft.usesDoRA, usesRSLoRA: peft.usesRSLoRA,
      rank: peft.rank, alpha: peft.alpha, baseModel: peft.baseModel)
  }
}

/// A PEFT folder whose configuration and tensor names have been checked. Updates are read one by one, so that a
/// conversion never holds more than one of them in f32.
struct PEFTReader {
  let peft: PEFTConfig
  /// What the configuration targets.
  let projections: [TargetedProjection]
  private let config: ModelConfig
  private let weights: PEFTWeights

  private static let configLimit = 4 << 20

  /// - Parameter base: what saved copies of its embedding and head are compared with; without it they are refused
  /// - Throws: `ModelError` naming the field or tensor that is wrong or not supported
  init(folder: URL, config: ModelConfig, base: Base? = nil) throws {
    try PEFTFolder.check(folder)
    let text = try MappedFile.contents(
      of: folder.appendingPathComponent(PEFTFolder.configurationFile), limit: Self.configLimit)
    peft = try PEFTConfig(text, file: PEFTFolder.configurationFile)
    projections = try PEFTTargets(peft, config: config).projections
    self.config = config
    try PEFTFolder.checkWeights(folder)
    let file = try SafetensorsFile(folder.appendingPathComponent(PEFTFolder.weightsFile))
    weights = try PEFTWeights(file, usesDoRA: peft.usesDoRA)
    try weights.checkNames(projections)
    try weights.checkCopies(of: base)
  }

  /// An error about the tensors of a projection.
  func failure(_ target: TargetedProjection, _ reason: String) -> ModelError {
    ModelError(weights.subject, target.projection.fullName(layer: target.layer), reason: reason)
  }

  /// Reads the update of a projection.
  /// - Throws: `ModelError` naming the tensor that has the wrong shape or values that are not finite
  func update(_ target: TargetedProjection) throws -> PEFTAdapter.Update {
    let shape = target.projection.shape(config)
    return PEFTAdapter.Update(
      layer: target.layer, projection: target.projection, rank: target.rank, scale: target.scale,
      a: try weights.read(target, .a, shape: [target.rank, shape.input]),
      b: try weights.read(target, .b, shape: [shape.output, target.rank]),
      magnitude: peft.usesDoRA ? try weights.read(target, .magnitude, shape: [shape.output]) : nil)
  }
}
