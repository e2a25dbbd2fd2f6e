import Formats
public import Foundation
import Model

extension Trainer {
  /// Makes the last finished step durable, completing an update that has begun; a step that was not finished, and a
  /// validation, will be done again.
  /// - Parameter onEvent: called with what the trainer reports meanwhile
  /// - Returns: the checkpoint's folder; `nil` before the first step or without a folder
  /// - Throws: `ModelError` naming the file that cannot be written, or saying why the run failed
  @discardableResult
  public func saveCheckpoint(onEvent: (TrainerEvent) -> Void = { _ in }) throws -> URL? {
    completeUpdate(onEvent: onEvent)
    if let writing { report(writing.wait()) }
    defer { takeEvents().forEach(onEvent) }
    if case .failed(let reason) = state { throw ModelError("training", reason: reason) }
    guard let checkpoints, progress.step > 0 else { return nil }
    let isNews = saved != progress
    let folder = isNews ? try write(to: checkpoints, progress, saved: saved) : checkpoints.location(progress.step)
    saved = progress
    // That it is there is told once, when all that was due before it is done.
    if isNews, isCheckpointDue(progress.step), !isConclusionDue {
      events.append(.checkpoint(step: progress.step, folder: folder))
    }
    return folder
  }

  /// Works until the parameters are between two steps, so that `saveCheckpoint` has nothing to compute.
  public func completeUpdate(onEvent: (TrainerEvent) -> Void) {
    while isUpdating, state == .running {
      advance().forEach(onEvent)
      if isWaiting { _ = writing?.wait() }
    }
  }

  /// - Parameter saved: what the newest checkpoint holds: of one at the same step only the state is written again
  private func write(
    to checkpoints: CheckpointFolder, _ progress: TrainerProgress, saved: TrainerProgress?
  ) throws -> URL {
    if let saved, saved.step == progress.step { return try checkpoints.writeState(progress, identity: identity) }
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
    guard let checkpoints, saved != progress else { return }
    let (progress, saved) = (progress, saved)
    let write = { [self] () throws -> URL in
      configuration.willWrite?()
      return try self.write(to: checkpoints, progress, saved: saved)
    }
    if let onWritten = configuration.onWritten {
      writing = CheckpointWriting(progress, write, then: onWritten)
    } else {
      report(Result { try write() }, of: progress)
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

  /// Tells of the checkpoint that was being written, or fails.
  func report(_ result: Result<URL, any Error>?) {
    guard let written = writing else { return }
    writing = nil
    isWaiting = false
    report(result, of: written.progress)
  }

  private func report(_ result: Result<URL, any Error>?, of progress: TrainerProgress) {
    switch result {
    case .success(let folder):
      saved = progress
      events.append(.checkpoint(step: progress.step, folder: folder))
    case .failure(let error): fail("the checkpoint cannot be written: \(error)")
    case nil: break
    }
  }
}
