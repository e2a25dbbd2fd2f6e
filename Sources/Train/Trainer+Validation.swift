import Model

extension Trainer {
  /// Phases that score the validation examples with the adapter as it is.
  func validation() -> [() -> [Slice]] {
    guard !data.validation.isEmpty else { return [] }
    let account = ValidationAccount()
    let examples = data.validation.enumerated().map { (example: $1, ordinal: $0) }
    var phases: [() -> [Slice]] = []
    for slab in pack(examples) {
      let score = SlabLoss(slab)
      let isPreference = hyperparameters.method == .dpo
      // References of validation pairs lie after those of the training data.
      let offset = data.training.count
      let pairs = slab.ordinals.map { $0 / 2 }
      if isPreference { phases += reference(slab, pairs: pairs, offset: offset) }
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
    }
    phases.append { [unowned self] in [{ [unowned self] in complete(account) }] }
    return phases
  }

  private func complete(_ account: ValidationAccount) {
    let loss = account.loss / Double(max(account.count, 1))
    guard loss.isFinite else { return rollBack("the validation loss is not finite") }
    let isBest = progress.bestLoss.map { loss < $0 } ?? true
    if isBest {
      progress.bestLoss = loss
      progress.bestStep = progress.step
      progress.stalled = 0
    } else {
      progress.stalled += 1
    }
    events.append(
      .validation(
        ValidationMetrics(
          step: progress.step, loss: loss, accuracy: Double(account.correct) / Double(max(account.count, 1)),
          isBest: isBest)))
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
