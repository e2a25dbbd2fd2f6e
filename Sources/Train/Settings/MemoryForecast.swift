import Formats
public import Foundation
public import Model

/// The bytes that a run will hold, computed before it starts. They depend on the data, the model and the adapter. They
/// depend neither on `batch_size` nor on `gradient_accumulation_steps`, because rows are packed only when they are
/// needed.
public struct MemoryForecast: Sendable, Equatable {
  /// The program with its libraries, and the tokenizer.
  public let program: Int
  /// The base's mapped weights, which every step reads.
  public let base: Int
  /// Token ids and labels, the epochs' orders, and the base's log-likelihoods of pairs.
  public let data: Int
  /// The adapter's parameters, their gradients and both moments, DoRA's norms and factors. If training continues from
  /// an adapter, also that adapter while it is read.
  public let adapter: Int
  /// What layers keep for the backward pass, scratch buffers, and the tables of positions.
  public let activations: Int

  /// Bytes of the whole process.
  public var total: Int { program + base + extra }
  /// The bytes in addition to the program and the base.
  public var extra: Int { data + adapter + activations }

  /// Measured: the resident memory of a run besides the other parts, including the writing of its checkpoints.
  private static let program = 80 << 20
  private static let bytesOfToken = 512
  /// The bytes of a microbatch for each token; doubled, because the microbatch before it is not freed yet.
  private static let bytesOfMicrobatchToken = 2 * 40

  /// - Parameters:
  ///   - initialAdapter: a PEFT folder that training continues from
  ///   - packsGradients: whether the run computes gradients on tile registers (`Compute.packsGradients`)
  /// - Throws: `HyperparameterError` naming what does not fit the model, `ModelError` if that folder cannot be read
  public init(
    base: Base, hyperparameters: Hyperparameters, data: TrainingData, initialAdapter: URL? = nil,
    packsGradients: Bool = false, activationMemory: Int = TrainerConfiguration.defaultActivationMemory
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
      config: base.config, targets: targets, usesDoRA: usesDoRA, usesDropout: hyperparameters.loraDropout > 0,
      packsGradients: packsGradients)
    let tokens = MicrobatchLimits(hyperparameters, longestExample: data.longestExample).tokens
    let pairs = hyperparameters.method == .dpo ? data.training.count + data.validation.count : 0

    program = Self.program + base.config.vocabularySize * Self.bytesOfToken
    self.base = base.bytesPerToken
    self.data =
      data.bytes + References.bytes(count: pairs)
      + EpochOrder.bytes(count: data.training.count, shuffle: hyperparameters.shuffle)
    // The norms of the base's rows are doubles, for whole projections; the factors are floats.
    let doRA = usesDoRA ? shapes.paddedOutputs.all.reduce(0, +) * base.config.layerCount * (8 + 4) : 0
    adapter = parameters * 4 * (4 + (initialAdapter == nil ? 0 : 1)) + doRA
    activations =
      ActivationLayout(shapes, tokens: tokens, budget: activationMemory).bytes
      + tokens * Self.bytesOfMicrobatchToken + data.longestRow * base.config.headSize * 4
  }
}
