public import Formats

/// A projection that a PEFT configuration targets, with the rank and the scale of its update.
public struct TargetedProjection: Sendable, Equatable {
  /// The decoder layer, from 0.
  public let layer: Int
  /// Which projection of the layer.
  public let projection: Projection
  /// r: the rows of A and the columns of B.
  public let rank: Int
  /// α, from `lora_alpha` or `alpha_pattern`.
  public let alpha: Double
  /// `LoRAScale` of alpha and rank.
  public let scale: Float

  /// The highest rank of an adapter that is trained or extracted, and of one with DoRA, whose row factors take a matrix of
  /// rank × rank.
  public static let maximumRank = 512

  /// The projections that an adapter_config.json targets, by the rules of PEFT 0.21, in the order of layers, then of
  /// `ModelConfig.projections`. An adapter that is loaded and one that is trained go by the same rules.
  /// - Parameters:
  ///   - configuration: the JSON object
  ///   - model: whose projections the names and patterns are matched with
  /// - Throws: `ModelError` naming the field that is wrong, not supported or matches nothing
  public static func all(in configuration: JSONValue, model: ModelConfig) throws -> [TargetedProjection] {
    let peft = try PEFTConfig(configuration.encoded, file: PEFTFolder.configurationFile, scope: .factors)
    let targets = try PEFTTargets(peft, config: model)
    try targets.checkFactors(file: peft.file)
    return targets.projections
  }
}

/// The factor of a low-rank update, y += scale · B(Ax).
public enum LoRAScale {
  /// α / r (Hu et al., 2021), or α / √r for rsLoRA (Kalajdzievski, 2023).
  public static func value(alpha: Double, rank: Int, usesRSLoRA: Bool) -> Float {
    Float(alpha / (usesRSLoRA ? Double(rank).squareRoot() : Double(rank)))
  }
}
