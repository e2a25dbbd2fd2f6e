/// What a run minimises: a mean of losses, of labelled tokens or of pairs, computed a microbatch at a time.
protocol TrainingLoss {
  /// How many losses the mean of a step is over: known before its first backward pass, which divides by it.
  /// - Parameter positions: the step's examples, counted since the beginning of training
  func divisor(
    of positions: Range<Int>, _ data: TrainingData, _ order: EpochOrder, _ turns: any TrainingTurns
  ) throws(TrainingInterruption) -> Int

  /// Computes what the loss needs to know of a microbatch before the pass that it scores. Uses the model's memory.
  mutating func prepare(
    _ microbatch: Microbatch, _ model: TrainingModel, _ turns: any TrainingTurns
  ) throws(TrainingInterruption)

  /// The losses of a microbatch whose forward pass is done.
  func score(_ pass: TrainingPass) throws(TrainingInterruption) -> LossSum

  /// The same, and leaves the gradient of sum / divisor by the last hidden states in `scratch.gradient`.
  func gradient(_ pass: TrainingPass, divisor: Int) throws(TrainingInterruption) -> LossSum
}

/// Losses, added up.
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
