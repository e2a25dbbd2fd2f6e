extension Trainer {
  /// Whether work that is due after the last step is still to be done: validation, the decision to stop early, a
  /// checkpoint.
  public var isConclusionDue: Bool { isCheckpointDue(progress.step) && progress.concludedStep < progress.step }

  /// Does all work that is due after a step: validation, the decision to stop early, and the checkpoint.
  ///
  /// If the run is stopped before the decision, all of this is done again when it continues; see
  /// `TrainerProgress.concludedStep`. No checkpoint has the validation's result without the decision, because the run
  /// cannot be stopped between the two.
  /// - Throws: `TrainingInterruption` during validation, `NotFiniteError`, `CheckpointWritingError`
  func conclude(_ slices: any TrainingSlices, _ onEvent: (TrainerEvent) -> Void) throws {
    let losses = try validate(slices)
    if losses.count > 0 { try record(losses, onEvent) }
    progress.concludedStep = progress.step
    if hasStalled, progress.step < totalSteps {
      onEvent(.stoppedEarly(step: progress.step, bestStep: progress.bestStep))
    }
    try writeDueCheckpoint(onEvent)
  }

  /// Computes the losses of the validation examples with the present adapter.
  private func validate(_ slices: any TrainingSlices) throws(TrainingInterruption) -> LossSum {
    var total = LossSum()
    var microbatches = Microbatches(validationOf: data, limits: limits)
    while let microbatch = try microbatches.next(slices) {
      try loss.prepare(microbatch, model, slices)
      let pass = TrainingPass(model, microbatch, .scoring, slices)
      try pass.forward()
      let losses = try loss.score(pass)
      total.sum += losses.sum
      total.correct += losses.correct
      total.count += losses.count
    }
    return total
  }

  private func record(_ losses: LossSum, _ onEvent: (TrainerEvent) -> Void) throws(NotFiniteError) {
    let loss = losses.sum / Double(losses.count)
    guard loss.isFinite else { throw NotFiniteError("the validation loss is not finite", step: progress.step) }
    let isBest = progress.bestLoss.map { loss < $0 } ?? true
    if isBest {
      progress.bestLoss = loss
      progress.bestStep = progress.step
      progress.stalled = 0
    } else {
      progress.stalled += 1
    }
    progress.history.appendValidation(step: progress.step, loss: loss)
    onEvent(
      .validation(
        ValidationMetrics(
          step: progress.step, loss: loss, accuracy: Double(losses.correct) / Double(losses.count), isBest: isBest)))
  }

  /// Whether training should stop early: the last `early_stopping_patience` validations brought no improvement.
  var hasStalled: Bool {
    let patience = hyperparameters.earlyStoppingPatience
    return patience > 0 && progress.stalled >= patience
  }
}
