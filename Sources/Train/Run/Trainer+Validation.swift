extension Trainer {
  /// Whether something is still to be done after the last step.
  public var isConclusionDue: Bool { isCheckpointDue(progress.step) && progress.concludedStep < progress.step }

  /// Does all that is due after a step: validation, the decision to stop early, and the checkpoint.
  ///
  /// A run that is stopped before the decision does all of it again; see `TrainerProgress.concludedStep`. No checkpoint
  /// has the validation's result without the decision, since no turn lies between them.
  /// - Throws: `TrainingInterruption` during validation, `NotFiniteError`, `CheckpointWritingError`
  func conclude(_ turns: any TrainingTurns, _ onEvent: (TrainerEvent) -> Void) throws {
    let losses = try validate(turns)
    if losses.count > 0 { try record(losses, onEvent) }
    progress.concludedStep = progress.step
    if hasStalled, progress.step < totalSteps {
      onEvent(.stoppedEarly(step: progress.step, bestStep: progress.bestStep))
    }
    try writeDueCheckpoint(onEvent)
  }

  /// Scores the validation examples with the adapter as it is.
  private func validate(_ turns: any TrainingTurns) throws(TrainingInterruption) -> LossSum {
    var total = LossSum()
    var microbatches = Microbatches(validationOf: data, limits: limits)
    while let microbatch = try microbatches.next(turns) {
      try loss.prepare(microbatch, model, turns)
      let pass = TrainingPass(model, microbatch, .scoring, turns)
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

  /// Validation says that more steps are of no use.
  var hasStalled: Bool {
    let patience = hyperparameters.earlyStoppingPatience
    return patience > 0 && progress.stalled >= patience
  }
}
