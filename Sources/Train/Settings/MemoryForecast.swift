import Formats
public import Foundation
public import Model

/// Bytes that a run will hold, known before it starts. What it allocates depends on the data, the model and the
/// adapter; neither on `batch_size` nor on `gradient_accumulation_steps`, since rows are packed when it is their turn.
public struct MemoryForecast: Sendable, Equatable {
  /// The program with its libraries, and the tokenizer.
  public let program: Int
  /// The base's weights, mapped, as every step reads them.
  public let base: Int
  /// Token ids and labels, the epochs' orders, and what is remembered of pairs.
  public let data: Int
  /// The adapter's parameters, their gradients and both moments, DoRA's norms and factors; with an adapter to go on
  /// from, that one while it is read.
  public let adapter: Int
  /// What layers keep for the way back, scratch, and tables of positions.
  public let activations: Int

  /// Bytes of the whole process.
  public var total: Int { program + base + extra }
  /// What comes on top of the base and the program.
  public var extra: Int { data + adapter + activations }

  /// As measured: what a run has resident beside the rest, writing its checkpoint included.
  private static let program = 64 << 20
  private static let bytesOfToken = 512
  /// What a microbatch knows of each token, the one before it still included.
  private static let bytesOfMicrobatchToken = 2 * 40

  /// - Parameter initialAdapter: a PEFT folder that training continues from
  /// - Throws: `HyperparameterError` naming what does not fit the model, `ModelError` if that folder cannot be read
  public init(
    base: Base, hyperparameters: Hyperparameters, data: TrainingData, initialAdapter: URL? = nil,
    activationMemory: Int = TrainerConfiguration.defaultActivationMemory
  ) throws {
    let initial = try initialAdapter.map(TrainableAdapter.configuration)
    let targets =
      try initial.map { try TargetedProjection.all(in: $0, model: base.config) }
      ?? hyperparameters.targets(base.config)
    let usesDoRA = initial.map { $0.object?["use_dora"]?.bool ?? false } ?? hyperparameters.useDoRA
    let outputs = targets.reduce(0) { $0 + $1.projection.shape(base.config).output }
    let parameters = targets.reduce(usesDoRA ? outputs : 0) { sum, target in
      let shape = target.projection.shape(base.config)
      return sum + target.rank * (shape.input + shape.output)
    }
    let shapes = TrainingShapes(
      config: base.config, targets: targets, usesDoRA: usesDoRA, usesDropout: hyperparameters.loraDropout > 0)
    let tokens = MicrobatchLimits(hyperparameters, longestExample: data.longestExample).tokens
    let pairs = hyperparameters.method == .dpo ? data.training.count + data.validation.count : 0

    program = Self.program + base.config.vocabularySize * Self.bytesOfToken
    self.base = base.bytesPerToken
    self.data =
      data.bytes + References.bytes(count: pairs)
      + EpochOrder.bytes(count: data.training.count, shuffle: hyperparameters.shuffle)
    // Norms of the base's rows are doubles, and there for whole projections; factors are floats.
    let doRA = usesDoRA ? shapes.paddedOutputs.all.reduce(0, +) * base.config.layerCount * (8 + 4) : 0
    adapter = parameters * 4 * (4 + (initialAdapter == nil ? 0 : 1)) + doRA
    activations =
      ActivationLayout(shapes, tokens: tokens, budget: activationMemory).bytes
      + tokens * Self.bytesOfMicrobatchToken + data.longestRow * base.config.headSize * 4
  }
}
