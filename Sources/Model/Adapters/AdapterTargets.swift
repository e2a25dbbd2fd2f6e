public import Formats

/// The linear modules that an adapter_config.json targets, by the same rules as an adapter that is loaded.
public struct AdapterTargets: Sendable {
  public struct Target: Sendable, Equatable {
    public let layer: Int
    public let linear: LinearModule
    public let rank: Int
    public let alpha: Double
    /// α / rank, or α / √rank for rsLoRA.
    public let scale: Float
  }

  /// In the order of layers, then of `LinearModule.allCases`.
  public let targets: [Target]

  /// - Throws: `ModelError` naming the field that is wrong, not supported or matches nothing
  public init(configuration: JSONValue, model: ModelConfig) throws {
    let peft = try PEFTConfig(configuration.encoded, file: "adapter_config.json")
    targets = try PEFTModules(peft, config: model).targets.map { target in
      let divisor = peft.usesRSLoRA ? Double(target.rank).squareRoot() : Double(target.rank)
      return Target(
        layer: target.layer, linear: target.linear, rank: target.rank, alpha: target.alpha,
        scale: Float(target.alpha / divisor))
    }
  }
}
