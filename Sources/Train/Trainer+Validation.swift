import Model

extension Trainer {
  /// Whether something is still to be done after the last step.
  public var isConclusionDue: Bool { isCheckpointDue(progress.step) && progress.concludedStep < progress.step }

  /// Plans all that is due after a step: validation, the decision to stop early, and the checkpoint.
  ///
  /// A run that is stopped before the decision does all of it again; see `TrainerProgress.concludedStep`.
  func planConclusion() {
    let account = ValidationAccount()
    push([
      { [unowned self] in planValidationSlab(from: 0, account) },
      { [unowned self] in [{ [unowned self] in conclude(account) }] },
      { [unowned self] in [{ [unowned self] in checkpoint() }] },
    ])
  }

  /// Packs the slab that begins with a validation example, and plans its scoring with the adapter as it is, and what
  /// follows.
  private func planValidationSlab(from ordinal: Int, _ account: ValidationAccount) -> [Slice] {
    guard ordinal < data.validation.count else { return [] }
    var next = ordinal
    let slab = pack(&next, of: data.validation.count) { data.validation[$0] }
    let following = next
    let score = SlabLoss(slab)
    let isPreference = hyperparameters.method == .dpo
    // References of validation pairs lie after those of the training data.
    let offset = data.training.count
    let pairs = slab.ordinals.map { $0 / 2 }
    var phases = isPreference ? reference(slab, pairs: pairs, offset: offset) : []
    phases += forward(slab, training: false)
    phases.append { [unowned self] in pass.head(adding: score, weights: nil) }
    phases.append { [unowned self] in
      [
        { [unowned self] in
          if isPreference {
            let outcome = preferences(score, pairs: pairs, offset: offset)
            account.add(outcome.loss, correct: outcome.correct, count: slab.rows.count / 2)
          } else {
            account.add(score.total, correct: score.correct, count: slab.targets.count)
          }
        }
      ]
    }
    push(phases + [{ [unowned self] in planValidationSlab(from: following, account) }])
    return []
  }

  /// Takes the validation's result and what follows from it, in one slice: no checkpoint has one without the other.
  private func conclude(_ account: ValidationAccount) {
    if account.count > 0 {
      let loss = account.loss / Double(account.count)
      guard loss.isFinite else { return rollBack("the validation loss is not finite", in: progress.step) }
      let isBest = progress.bestLoss.map { loss < $0 } ?? true
      if isBest {
        progress.bestLoss = loss
        progress.bestStep = progress.step
        progress.stalled = 0
      } else {
        progress.stalled += 1
      }
      progress.history.appendValidation(step: progress.step, loss: loss)
      events.append(
        .validation(
          ValidationMetrics(
            step: progress.step, loss: loss, accuracy: Double(account.correct) / Double(account.count),
            isBest: isBest)))
    }
    progress.concludedStep = progress.step
    if hasStalled, progress.step < totalSteps {
      events.append(.stoppedEarly(step: progress.step, bestStep: progress.bestStep))
    }
  }

  /// Validation says that more steps are of no use.
  var hasStalled: Bool {
    let patience = hyperparameters.earlyStoppingPatience
    return patience > 0 && progress.stalled >= patience
  }
}

private final class ValidationAccount {
  private(set) var loss = 0.0
  private(set) var correct = 0
  private(set) var count = 0

  func add(_ loss: Double, correct: Int, count: Int) {
    self.loss += loss
    self.correct += correct
    self.count += count
  }
}
