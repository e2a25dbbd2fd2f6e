public import Foundation
import Model

extension Trainer {
  /// Makes the last finished step durable, completing an update that has begun; a step that was not finished will be
  /// done again. What it reports comes with the next `advance`.
  /// - Returns: the checkpoint's folder; `nil` before the first step or without a folder
  /// - Throws: `ModelError` naming the file that cannot be written
  @discardableResult
  public func saveCheckpoint() throws -> URL? {
    if let writing { report(writing.wait()) }
    while isUpdating, state == .running { work() }
    guard let checkpoints, progress.step > 0 else { return nil }
    let existing = checkpoints.location(progress.step)
    if checkpoints.resumableSteps.contains(progress.step) { return existing }
    return try write(to: checkpoints, progress)
  }

  private func write(to checkpoints: CheckpointFolder, _ progress: TrainerProgress) throws -> URL {
    let best = hyperparameters.earlyStoppingPatience > 0 ? progress.bestStep : 0
    return try checkpoints.write(
      adapter, progress, identity: identity, keeping: configuration.resumableCheckpoints
    ) { steps in
      // Others were only made to be resumed from.
      let due = steps.filter(isCheckpointDue)
      return Set(due.suffix(configuration.checkpointsKept ?? due.count)).union([best])
    }
  }

  /// Writes what is due after a step, at once or beside what follows.
  func checkpoint() {
    if let checkpoints {
      let progress = progress
      let write = { [self] () throws -> URL in
        configuration.willWrite?()
        return try self.write(to: checkpoints, progress)
      }
      if let onWritten = configuration.onWritten {
        writing = CheckpointWriting(step: progress.step, write, then: onWritten)
      } else {
        report(Result { try write() })
      }
    }
    let patience = hyperparameters.earlyStoppingPatience
    if state == .running, patience > 0, progress.stalled >= patience, progress.step < totalSteps {
      events.append(.stoppedEarly(step: progress.step, bestStep: progress.bestStep))
      isStoppedEarly = true
    }
  }

  /// A phase that ends when no checkpoint is being written any more.
  func settle() -> [Slice] {
    guard let writing else { return [] }
    if let result = writing.result {
      report(result)
    } else {
      isWaiting = true
      push([{ [unowned self] in settle() }])
    }
    return []
  }

  /// Tells of a checkpoint that was written just now, or fails.
  func report(_ result: Result<URL, any Error>?) {
    let step = writing?.step ?? progress.step
    writing = nil
    isWaiting = false
    switch result {
    case .success(let folder): events.append(.checkpoint(step: step, folder: folder))
    case .failure(let error): fail("the checkpoint cannot be written: \(error)")
    case nil: break
    }
  }
}
