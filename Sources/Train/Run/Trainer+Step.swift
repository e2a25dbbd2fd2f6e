import Kernels

/// Sums of an optimiser step.
struct StepAccount: Equatable {
  /// Labelled tokens, or pairs: what the loss is divided by.
  var divisor = 0
  var loss = 0.0
  var correct = 0
  /// Predictions that `correct` is a part of.
  var scored = 0
  /// Tokens of the step's rows.
  var tokens = 0
  /// Tokens of the step's rows that carry loss.
  var lossTokens = 0
  /// The norm of the gradients before clipping.
  var gradientNorm = 0.0

  mutating func add(_ losses: LossSum, of microbatch: Microbatch) {
    loss += losses.sum / Double(divisor)
    correct += losses.correct
    scored += losses.count
    tokens += microbatch.tokens.count
    lossTokens += microbatch.targets.count
  }
}

extension Trainer {
  /// Makes one optimiser step.
  ///
  /// Rows are looked up only when their microbatch is packed, so a step of any number of rows takes no more memory than
  /// a microbatch.
  /// - Throws: `TrainingInterruption`, before the update or after it; `NotFiniteError`
  func makeStep(_ slices: any TrainingSlices, _ onEvent: (TrainerEvent) -> Void) throws {
    let examples = examples(of: progress.step)
    try adapter.clearGradients(slices)
    account = StepAccount(divisor: try loss.divisor(of: examples, data, order, slices))
    var microbatches = Microbatches(training: examples, order: order, data: data, limits: limits)
    while let microbatch = try microbatches.next(slices) {
      try loss.prepare(microbatch, model, slices)
      let pass = TrainingPass(model, microbatch, .training(step: progress.step), slices)
      try pass.forward()
      account.add(try loss.gradient(pass, divisor: account.divisor), of: microbatch)
      try pass.backward()
    }
    account.gradientNorm = try adapter.gradientNorm(model.compute, slices)
    try checkIsFinite(account)
    try update(slices)
    progress.step += 1
    progress.tokens += account.tokens
    progress.history.append(account.loss)
    onEvent(.metrics(metrics(account)))
  }

  /// A step's examples, counted since the beginning of training.
  /// - Parameter step: from 0
  private func examples(of step: Int) -> Range<Int> {
    let first = step * hyperparameters.rowsPerStep
    var count = hyperparameters.rowsPerStep
    if hyperparameters.maxSteps == nil { count = min(count, data.training.count * hyperparameters.nEpochs - first) }
    return first..<first + count
  }

  private func checkIsFinite(_ account: StepAccount) throws(NotFiniteError) {
    guard account.loss.isFinite else { throw NotFiniteError("the loss is not finite", step: progress.step + 1) }
    guard account.gradientNorm.isFinite else {
      throw NotFiniteError("the gradient is not finite", step: progress.step + 1)
    }
  }

  /// Clips the gradients and makes AdamW's step. The run cannot be stopped during this, because parameters, moments and
  /// DoRA's factors must change together.
  private func update(_ slices: any TrainingSlices) throws {
    let rate = schedule.rate(step: progress.step)
    let (count, norm) = (progress.step + 1, account.gradientNorm)
    let rateOfB = rate * hyperparameters.loraPlusRatio
    try adapter.update(
      hyperparameters.adamW(learningRate: rate, count: count, gradientNorm: norm),
      stepOfB: hyperparameters.adamW(learningRate: rateOfB, count: count, gradientNorm: norm), model.compute, slices)
    try model.refreshFactors(settingMagnitudes: false, interruptible: false, slices)
    guard try adapter.isFinite(model.compute, slices) else {
      throw NotFiniteError("the adapter is not finite", step: progress.step + 1)
    }
  }

  /// The figures that are reported of a step.
  private func metrics(_ account: StepAccount) -> StepMetrics {
    StepMetrics(
      step: progress.step,
      epoch: Double(progress.step * hyperparameters.rowsPerStep) / Double(data.training.count),
      trainLoss: account.loss, accuracy: Double(account.correct) / Double(max(account.scored, 1)),
      gradNorm: account.gradientNorm, learningRate: schedule.rate(step: progress.step - 1), tokens: account.tokens,
      lossTokens: account.lossTokens)
  }
}
