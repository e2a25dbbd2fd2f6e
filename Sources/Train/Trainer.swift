import Formats
public import Foundation
public import Kernels
public import Model

/// Trains one adapter, a slice of a millisecond or two at a time, so that whoever owns the thread can do other work
/// between slices.
///
/// Everything that happens follows from data, hyperparameters and base: a run that was stopped and resumed ends in the
/// same bytes as one that was not (same machine, compute mode and build). The step itself is in `Trainer+Step.swift`.
///
/// `@unchecked Sendable`: one thread at a time calls it; it may be another one each time.
public final class Trainer: @unchecked Sendable {
  public enum State: Sendable, Equatable {
    case running
    case finished
    case failed(String)
  }

  public internal(set) var state = State.running
  public let totalSteps: Int
  public let hyperparameters: Hyperparameters
  public let configuration: TrainerConfiguration
  public let adapter: TrainableAdapter
  /// Optimiser steps made.
  public var step: Int { progress.step }
  /// Tokens of the rows of every step made.
  public var tokens: Int { progress.tokens }
  /// Steps whose checkpoint was due and is there, ascending, with its folder.
  public var checkpointFolders: [(step: Int, folder: URL)] {
    guard let checkpoints else { return [] }
    let last = isConclusionDue ? progress.step - 1 : progress.step
    return checkpoints.steps.filter { $0 <= last && isCheckpointDue($0) }
      .map { (step: $0, folder: checkpoints.location($0)) }
  }

  func isCheckpointDue(_ step: Int) -> Bool { step % checkpointInterval == 0 || step == totalSteps }
  /// The losses of the steps made; each step's own, unless there are thousands.
  public var losses: [Double] { progress.history.means }
  /// The same with those of validations, for a plot.
  public var history: LossHistory { progress.history }

  let data: TrainingData
  let pass: TrainingPass
  let schedule: LearningRateSchedule
  let checkpoints: CheckpointFolder?
  let identity: JSONValue
  let checkpointInterval: Int
  let norms = DoRANorms()
  var progress = TrainerProgress()
  /// What the newest checkpoint that this run wrote or began with holds.
  var saved: TrainerProgress?
  let order: EpochOrder
  /// Phases still to come, last first; each makes its slices when its turn comes.
  var plan: [() -> [Slice]] = []
  var slices: [Slice] = []
  var nextSlice = 0
  var events: [TrainerEvent] = []
  /// The checkpoint that is being written on a queue.
  var writing: CheckpointWriting?
  /// `advance` has nothing to do until a checkpoint is written; see `TrainerConfiguration.onWritten`.
  public internal(set) var isWaiting = false
  /// Parameters are between two steps: `saveCheckpoint` would first have to compute.
  public internal(set) var isUpdating = false
  /// DoRA's factors do not belong to the parameters.
  var factorsAreStale: Bool
  /// New magnitudes are the base's norms.
  var setsMagnitudes: Bool
  /// The step at which something was not finite.
  var failedStep: Int?
  /// The bare base's −log-likelihoods of the chosen and the rejected answer of DPO's pairs.
  var references: References
  var current = StepAccount()

  /// - Parameters:
  ///   - base: as the compute's mode keeps it
  ///   - resume: goes on from the newest checkpoint in the configuration's folder, if there is one; without it there
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
    pass = TrainingPass(
      base: base, compute: compute, adapter: adapter, dropout: hyperparameters.loraDropout, seed: hyperparameters.seed,
      tokenLimit: hyperparameters.slabTokens(longestExample: data.longestExample), positionLimit: data.longestRow,
      activationBytes: configuration.activationMemory)
    let (rows, overflow) = data.training.count.multipliedReportingOverflow(by: hyperparameters.nEpochs)
    guard !overflow else { throw HyperparameterError("n_epochs", "is too large") }
    totalSteps =
      hyperparameters.maxSteps ?? (rows + hyperparameters.rowsPerStep - 1) / hyperparameters.rowsPerStep
    schedule = LearningRateSchedule(hyperparameters, totalSteps: totalSteps)
    checkpointInterval = hyperparameters.checkpointInterval(totalSteps: totalSteps)
    checkpoints = configuration.folder.map(CheckpointFolder.init)
    references = References(
      count: hyperparameters.method == .dpo ? data.training.count + data.validation.count : 0)
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
        if let newest = checkpoints.resumableSteps.last { try restore(newest) }
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

  /// Gives an adapter the values that it began with.
  private static func restart(
    _ adapter: TrainableAdapter, _ hyperparameters: Hyperparameters, _ configuration: TrainerConfiguration,
    _ model: ModelConfig
  ) throws {
    if let folder = configuration.initialAdapter {
      try adapter.restart(peft: folder, model: model)
    } else {
      adapter.restart(seed: hyperparameters.seed)
    }
  }

  /// Does one slice of work. Does nothing once the run has ended.
  /// - Returns: what there is to report, in its order
  public func advance() -> [TrainerEvent] {
    isWaiting = false
    work()
    return takeEvents()
  }

  /// What there is to report, once.
  func takeEvents() -> [TrainerEvent] {
    defer { events = [] }
    return events
  }

  func work() {
    guard state == .running else { return }
    while nextSlice >= slices.count, !isWaiting {
      if plan.isEmpty { planNext() }
      guard state == .running, let phase = plan.popLast() else { break }
      slices = phase()
      nextSlice = 0
    }
    if nextSlice < slices.count {
      nextSlice += 1
      slices[nextSlice - 1]()
    }
  }

  /// Works until the run ends or `shouldStop` says so, which is asked before each slice.
  public func run(shouldStop: () -> Bool = { false }, onEvent: (TrainerEvent) -> Void = { _ in }) {
    while state == .running, !shouldStop() {
      advance().forEach(onEvent)
      if isWaiting { _ = writing?.wait() }
    }
  }

  // MARK: what comes next

  private func planNext() {
    if factorsAreStale {
      factorsAreStale = false
      push([{ [unowned self] in pass.refreshFactors(norms: norms, settingMagnitudes: setsMagnitudes) }])
    } else if isConclusionDue {
      planConclusion()
    } else if progress.step < totalSteps, !hasStalled {
      setsMagnitudes = false
      planStep()
    } else if writing != nil {
      push([{ [unowned self] in settle() }])
    } else {
      finish()
    }
  }

  /// Adds phases to be done next, in their order.
  func push(_ phases: [() -> [Slice]]) { plan.append(contentsOf: phases.reversed()) }

  /// Ends the run with the adapter as it is.
  func finish() {
    do {
      var folder = configuration.folder
      let usesBest =
        hyperparameters.earlyStoppingPatience > 0 && progress.bestStep > 0 && progress.bestStep != progress.step
      if configuration.onWritten == nil {
        if usesBest, let checkpoints { try adapter.readParameters(from: checkpoints.location(progress.bestStep)) }
        if let folder { try adapter.write(to: folder) }
      } else {
        folder = checkpoints?.location(usesBest ? progress.bestStep : progress.step)
      }
      state = .finished
      events.append(.finished(step: progress.step, folder: folder))
    } catch {
      fail("\(error)")
    }
  }

  func fail(_ reason: String) {
    plan = []
    slices = []
    nextSlice = 0
    isUpdating = false
    state = .failed(reason)
    events.append(.failed(reason: reason))
  }

  // MARK: going back

  private func restore(_ step: Int) throws {
    guard let checkpoints else { return }
    progress = try checkpoints.read(step, into: adapter, identity: identity)
    saved = progress
    factorsAreStale = adapter.usesDoRA
    setsMagnitudes = false
  }

  /// Goes back to this run's newest checkpoint, or to the beginning; fails if that has not helped before.
  /// - Parameter step: the one that failed
  func rollBack(_ reason: String, in step: Int) {
    guard failedStep != step else { return fail("\(reason) in step \(step), again after going back") }
    failedStep = step
    plan = []
    slices = []
    nextSlice = 0
    // Until then, the parameters are not to be saved.
    isUpdating = true
    push([
      { [unowned self] in settle() },
      { [unowned self] in [{ [unowned self] in goBack(reason, from: step) }] },
    ])
  }

  private func goBack(_ reason: String, from step: Int) {
    isUpdating = false
    do {
      if let saved {
        try restore(saved.step)
      } else {
        try Self.restart(adapter, hyperparameters, configuration, pass.config)
        progress = TrainerProgress()
        factorsAreStale = adapter.usesDoRA
        setsMagnitudes = adapter.usesDoRA && configuration.initialAdapter == nil
      }
      events.append(.rolledBack(from: step, to: progress.step, reason: reason))
    } catch {
      fail("\(reason) in step \(step), and going back failed: \(error)")
    }
  }
}
