/// The loss that a run minimises: a mean over labelled tokens or over pairs, computed one microbatch at a time.
protocol TrainingLoss {
  /// The number of losses that a step's mean is taken over. It is known before the first backward pass, which divides
  /// by it.
  /// - Parameter positions: the step's examples, counted since the beginning of training
  func divisor(
    of positions: Range<Int>, _ data: TrainingData, _ order: EpochOrder, _ slices: any TrainingSlices
  ) throws(TrainingInterruption) -> Int

  /// Computes what `score` and `gradient` need besides the microbatch's own forward pass, before that pass. Overwrites
  /// the model's activations.
  mutating func prepare(
    _ microbatch: Microbatch, _ model: TrainingModel, _ slices: any TrainingSlices
  ) throws(TrainingInterruption)

  /// The losses of a microbatch, whose forward pass is complete.
  func score(_ pass: TrainingPass) throws(TrainingInterruption) -> LossSum

  /// As `score`; also writes the gradient of sum / divisor by the last hidden states to `scratch.gradient`.
  func gradient(_ pass: TrainingPass, divisor: Int) throws(TrainingInterruption) -> LossSum
}

/// A sum of losses.
struct LossSum: Equatable {
  var sum = 0.0
  /// Predictions that were right.
  var correct = 0
  /// All predictions.
  var count = 0
}

extension Hyperparameters {
  /// - Parameter examples: of training and validation together
  func makeLoss(examples: Int) -> any TrainingLoss {
    switch method {
    case .supervised: SupervisedLoss()
    case .dpo: PreferenceLoss(beta: beta, examples: examples)
    }
  }
}
