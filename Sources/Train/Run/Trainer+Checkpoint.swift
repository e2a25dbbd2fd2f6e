import Formats
public import Foundation
import Model

extension Trainer {
  /// The checkpoints that were due at their step and are complete, ascending by step.
  public var checkpointFolders: [(step: Int, folder: URL)] {
    guard let checkpoints else { return [] }
    let last = isConclusionDue ? progress.step - 1 : progress.step
    return checkpoints.steps.filter { $0 <= last && isCheckpointDue($0) }
      .map { (step: $0, folder: checkpoints.location($0)) }
  }

  func isCheckpointDue(_ step: Int) -> Bool { step % checkpointInterval == 0 || step == totalSteps }

  /// Writes a checkpoint of the last complete step. A step or a validation that was interrupted will be done again.
  /// - Parameter onEvent: called with the events of this
  /// - Returns: the checkpoint's folder; `nil` before the first step or without a folder
  /// - Throws: `ModelError` naming the file that cannot be written, or saying why the run failed
  @discardableResult
  public func saveCheckpoint(onEvent: (TrainerEvent) -> Void = { _ in }) throws -> URL? {
    if case .failed(let reason) = state { throw ModelError("training", reason: reason) }
    guard let checkpoints, progress.step > 0 else { return nil }
    guard saved != progress else { return checkpoints.location(progress.step) }
    let folder = try write(to: checkpoints)
    // A checkpoint is reported only once, after everything that was due before it is done.
    if isCheckpointDue(progress.step), !isConclusionDue {
      onEvent(.checkpoint(step: progress.step, folder: folder))
    }
    return folder
  }

  /// Writes the checkpoint that is due after a step, unless it was written already.
  func writeDueCheckpoint(_ onEvent: (TrainerEvent) -> Void) throws(CheckpointWritingError) {
    guard let checkpoints, saved != progress else { return }
    do {
      onEvent(.checkpoint(step: progress.step, folder: try write(to: checkpoints)))
    } catch {
      throw CheckpointWritingError(cause: error)
    }
  }

  /// Writes a checkpoint. If there is already one of the same step, only its state is replaced.
  private func write(to checkpoints: CheckpointFolder) throws -> URL {
    configuration.willWrite?()
    let folder: URL
    if saved?.step == progress.step {
      folder = try checkpoints.writeState(progress, identity: identity)
    } else {
      let best = hyperparameters.earlyStoppingPatience > 0 ? progress.bestStep : 0
      folder = try checkpoints.write(
        adapter, progress, identity: identity, keeping: configuration.resumableCheckpoints
      ) { steps in
        // Checkpoints at other steps were only written so that the run could be resumed.
        let due = steps.filter(isCheckpointDue)
        return Set(due.suffix(configuration.checkpointsKept ?? due.count)).union([best])
      }
    }
    saved = progress
    return folder
  }
}

/// A checkpoint that could not be written, for example because the disk is full.
struct CheckpointWritingError: Error, CustomStringConvertible {
  let cause: any Error

  /// "the checkpoint cannot be written: …/optimizer.safetensors: No space left on device"
  var description: String { "the checkpoint cannot be written: \(cause)" }
}
