public import Formats
public import Foundation

/// A LoRA adapter of projections read from a PEFT folder, in f32. Training continues from it.
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
  /// - Throws: `ModelError` naming the field of the configuration or the tensor: for what training does not support, for a
  ///   tensor that is unknown, missing, of the wrong shape or not finite
  public static func read(folder: URL, config: ModelConfig) throws -> PEFTAdapter {
    let reader = try PEFTReader(folder: folder, config: config)
    let peft = reader.peft
    // What is trained has the names of the language model's own class, and the configuration must target the same by them.
    guard (try? PEFTTargets(peft, config: config).projections) == reader.projections else {
      throw ModelError(
        peft.file, "target_modules",
        reason: "names modules as a model for images and texts does, which can be served, but not trained further")
    }
    return PEFTAdapter(
      updates: try reader.projections.map(reader.update), usesDoRA: peft.usesDoRA, usesRSLoRA: peft.usesRSLoRA,
      rank: peft.rank, alpha: peft.alpha, baseModel: peft.baseModel)
  }
}
