import Formats
import Foundation
public import Kernels
public import Model

/// Trains one adapter. `run` does all the work on the caller's thread, and asks `TrainingSlices` before each kernel call.
///
/// The result follows from data, hyperparameters and base: a run that was stopped and resumed ends in the
/// same bytes as one that was not (same machine, compute mode and build).
public final class Trainer {
  /// The state of a run.
  public enum State: Sendable, Equatable {
    /// The run can make further steps.
    case running
    /// The final adapter is complete.
    case finished
    /// The run cannot continue, for the reason given.
    case failed(String)
  }

  /// Changes during `run` alone.
  public private(set) var state = State.running
  /// Optimiser steps of the whole run.
  public let totalSteps: Int
  /// The settings of the run.
  public let hyperparameters: Hyperparameters
  /// Where the run writes to, and how much memory it may use.
  public let configuration: TrainerConfiguration
  /// The adapter that is trained; its values change during `run`.
  public let adapter: TrainableAdapter
  /// Optimiser steps made.
  public var step: Int { progress.step }
  /// Tokens of the rows of every step made.
  public var tokens: Int { progress.tokens }
  /// The losses of the steps made; each step's own, unless there are thousands.
  public var losses: [Double] { progress.history.means }
  /// The training and validation losses, for a plot.
  public var history: LossHistory { progress.history }

  let data: TrainingData
  let model: TrainingModel
  let schedule: LearningRateSchedule
  let checkpoints: CheckpointFolder?
  /// Settings, data and base. A checkpoint can only be resumed if its identity is equal.
  let identity: JSONValue
  let checkpointInterval: Int
  let order: EpochOrder
  let limits: MicrobatchLimits
  var loss: any TrainingLoss
  var progress = TrainerProgress()
  /// The progress in the newest checkpoint that this run has written or was resumed from.
  var saved: TrainerProgress?
  /// The sums of the present step, or of the last one.
  var account = StepAccount()
  /// DoRA's factors must be computed from the parameters before the next pass.
  private var factorsAreStale: Bool
  /// The next computation of the factors sets DoRA's magnitudes to the base's norms, because the adapter is new.
  private var setsMagnitudes: Bool
  /// The last step at which a loss, gradient or parameter was not finite.
  private var failedStep: Int?

  /// - Parameters:
  ///   - base: as the compute's mode keeps it
  ///   - resume: continues from the newest checkpoint in the configuration's folder, if there is one; without it there
  ///     must be none
  /// - Throws: `ModelError` or `HyperparameterError` naming what does not fit
  public init(
    base: Base, compute: Compute, data: TrainingData, hyperparameters: Hyperparameters,
    configuration: TrainerConfiguration, resume: Bool = false
  ) throws {
    self.data = data
    self.hyperparameters = hyperparameters
    self.configuration = configuration
    adapter = try Self.makeAdapter(hyperparameters, configuration, base.config)
    limits = MicrobatchLimits(hyperparameters, longestExample: data.longestExample)
    model = TrainingModel(
      base: base, compute: compute, adapter: adapter, dropout: hyperparameters.loraDropout, seed: hyperparameters.seed,
      tokenLimit: limits.tokens, positionLimit: data.longestRow, activationBytes: configuration.activationMemory)
    totalSteps = try hyperparameters.totalSteps(examples: data.training.count)
    schedule = LearningRateSchedule(hyperparameters, totalSteps: totalSteps)
    checkpointInterval = hyperparameters.checkpointInterval(totalSteps: totalSteps)
    checkpoints = configuration.folder.map(CheckpointFolder.init)
    loss = hyperparameters.makeLoss(examples: data.training.count + data.validation.count)
    order = EpochOrder(count: data.training.count, seed: hyperparameters.seed, shuffle: hyperparameters.shuffle)
    factorsAreStale = adapter.usesDoRA
    setsMagnitudes = adapter.usesDoRA && configuration.initialAdapter == nil
    identity = [
      "method": .string(hyperparameters.method.rawValue), "seed": .integer(hyperparameters.seed),
      "hyperparameters": .object(hyperparameters.json), "base": .string(base.fingerprint),
      "compute": .string(compute.mode.rawValue), "data": .string(String(data.digest, radix: 16)),
    ]
    if let folder = configuration.folder { try FolderAccess.create(folder) }
    if let checkpoints {
      if resume {
        if let newest = checkpoints.resumableSteps.last { try restore(newest, from: checkpoints) }
      } else if let newest = checkpoints.steps.last {
        throw ModelError(checkpoints.location(newest).path, reason: "is a checkpoint of another run")
      }
    }
  }

  private static func makeAdapter(
    _ hyperparameters: Hyperparameters, _ configuration: TrainerConfiguration, _ model: ModelConfig
  ) throws -> TrainableAdapter {
    if let folder = configuration.initialAdapter {
      return try TrainableAdapter(peft: folder, hyperparameters, model: model)
    }
    return try TrainableAdapter(hyperparameters, model: model, baseName: configuration.baseName)
  }

  /// Trains until the run ends; `state` then says how.
  ///
  /// A run that was stopped can be continued by calling `run` again, or by a trainer that is made from its checkpoint. A
  /// step or a validation that was not finished is done again.
  /// - Parameters:
  ///   - slices: decides when each kernel call begins, and stops the run
  ///   - onEvent: called on this thread with every event
  /// - Throws: `TrainingInterruption` if `slices` stopped the run. No update of the parameters is under way then, so that
  ///   `saveCheckpoint` can be called.
  public func run(
    slices: any TrainingSlices = UnpacedSlices(), onEvent: (TrainerEvent) -> Void = { _ in }
  ) throws(TrainingInterruption) {
    while state == .running {
      do {
        try refreshStaleFactors(slices)
        if isConclusionDue {
          try conclude(slices, onEvent)
        } else if progress.step < totalSteps, !hasStalled {
          try makeStep(slices, onEvent)
        } else {
          try finish(onEvent)
        }
      } catch let interruption as TrainingInterruption {
        throw interruption
      } catch let failure as NotFiniteError {
        rollBack(failure, onEvent)
      } catch {
        fail("\(error)", onEvent)
      }
    }
  }

  private func refreshStaleFactors(_ slices: any TrainingSlices) throws(TrainingInterruption) {
    guard factorsAreStale else { return }
    try model.refreshFactors(settingMagnitudes: setsMagnitudes, interruptible: true, slices)
    factorsAreStale = false
    setsMagnitudes = false
  }

  /// Ends the run with the adapter as it is.
  private func finish(_ onEvent: (TrainerEvent) -> Void) throws {
    let usesBest =
      hyperparameters.earlyStoppingPatience > 0 && progress.bestStep > 0 && progress.bestStep != progress.step
    var folder = configuration.folder
    switch configuration.finalAdapter {
    case .runFolder:
      if usesBest, let checkpoints { try adapter.readParameters(from: checkpoints.location(progress.bestStep)) }
      if let folder { try adapter.write(to: folder) }
    case .checkpoint: folder = checkpoints?.location(usesBest ? progress.bestStep : progress.step)
    }
    state = .finished
    onEvent(.finished(step: progress.step, folder: folder))
  }

  private func fail(_ reason: String, _ onEvent: (TrainerEvent) -> Void) {
    state = .failed(reason)
    onEvent(.failed(reason: reason))
  }

  // MARK: rolling back

  private func restore(_ step: Int, from checkpoints: CheckpointFolder) throws {
    progress = try checkpoints.read(step, into: adapter, identity: identity)
    saved = progress
    factorsAreStale = adapter.usesDoRA
    setsMagnitudes = false
  }

  /// Goes back to this run's newest checkpoint, or to the beginning if there is none. Fails the run if the same step
  /// was not finite before.
  private func rollBack(_ failure: NotFiniteError, _ onEvent: (TrainerEvent) -> Void) {
    let step = failure.step
    guard failedStep != step else { return fail("\(failure) in step \(step), again after going back", onEvent) }
    failedStep = step
    do {
      if let saved, let checkpoints {
        try restore(saved.step, from: checkpoints)
      } else {
        try restart()
      }
      onEvent(.rolledBack(from: step, to: progress.step, reason: failure.description))
    } catch {
      fail("\(failure) in step \(step), and going back failed: \(error)", onEvent)
    }
  }

  /// Sets the adapter back to its initial values.
  private func restart() throws {
    if let folder = configuration.initialAdapter {
      try adapter.restart(peft: folder, model: model.config)
    } else {
      adapter.restart(seed: hyperparameters.seed)
    }
    progress = TrainerProgress()
    factorsAreStale = adapter.usesDoRA
    setsMagnitudes = adapter.usesDoRA && configuration.initialAdapter == nil
  }
}

/// A loss, gradient or parameter that is infinite or not a number.
struct NotFiniteError: Error, CustomStringConvertible {
  /// "the loss is not finite"
  let description: String
  /// The number of the step in which it happened, from 1.
  let step: Int

  init(_ description: String, step: Int) {
    self.description = description
    self.step = step
  }
}
