public import Model

/// Bytes that a run will hold, known before it starts.
public struct MemoryForecast: Sendable, Equatable {
  /// The program with its libraries, and the tokenizer.
  public let program: Int
  /// The base's weights, mapped, as every step reads them.
  public let base: Int
  /// The adapter's parameters, their gradients and both moments.
  public let adapter: Int
  /// What layers keep for the way back, and scratch.
  public let activations: Int

  public var total: Int { program + base + adapter + activations }

  /// As measured: what a run has resident beside the rest, writing its checkpoint included.
  private static let program = 64 << 20
  private static let bytesOfToken = 512

  /// - Parameter longestExample: tokens of the longest example (both rows of a pair)
  /// - Throws: `ModelError` naming the hyperparameter that does not fit the model
  public init(
    base: Base, hyperparameters: Hyperparameters, longestExample: Int,
    activationMemory: Int = TrainerConfiguration.defaultActivationMemory
  ) throws {
    let configuration = hyperparameters.adapterConfiguration(baseName: "base")
    let targets = try AdapterTargets(configuration: configuration, model: base.config).targets
    let parameters = targets.reduce(0) { sum, target in
      let shape = target.linear.shape(base.config)
      return sum + target.rank * (shape.input + shape.output) + (hyperparameters.useDoRA ? shape.output : 0)
    }
    let layout = ActivationLayout(config: base.config, targets: targets, usesDoRA: hyperparameters.useDoRA)
    program = Self.program + base.config.vocabularySize * Self.bytesOfToken
    self.base = base.bytesPerToken
    adapter = parameters * 4 * 4
    activations = Activations.bytes(
      layout, tokens: hyperparameters.slabTokens(longestExample: longestExample), budget: activationMemory,
      dropout: hyperparameters.loraDropout > 0)
  }
}

extension Hyperparameters {
  /// Tokens that go through the model together where rows are packed: enough for the products to be efficient.
  private static let packedTokens = 256

  /// The most tokens of a slab.
  func slabTokens(longestExample: Int) -> Int { packing ? max(longestExample, Self.packedTokens) : longestExample }
}
