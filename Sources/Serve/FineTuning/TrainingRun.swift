import Dispatch
import Synchronization
import Train

/// Raised once, looked at by whoever reads data that may no longer be wanted.
final class StopFlag: Sendable {
  private let isRaisedNow = Atomic<Bool>(false)

  var isRaised: Bool { isRaisedNow.load(ordering: .relaxed) }
  func raise() { isRaisedNow.store(true, ordering: .relaxed) }
}

/// How the thread of a job that trains is controlled and watched by others: it gets its turns between the engine's
/// passes, and stops when it is told to.
final class TrainingRun: TrainingTurns, Sendable {
  /// Ends the reading of the job's data, too.
  let stopFlag = StopFlag()
  private let saves = Atomic<Bool>(true)
  private let nanoseconds = Atomic<Int>(0)
  private let lease: ComputeLease
  private let metrics: EngineMetrics

  init(beside engine: Engine) {
    lease = engine.lease
    metrics = engine.metrics
  }

  /// Ends the run at the next point from which a checkpoint can be written. From any thread.
  /// - Parameter saving: whether that checkpoint is wanted; the last call decides
  func stop(saving: Bool) {
    saves.store(saving, ordering: .relaxed)
    stopFlag.raise()
    lease.wakeTraining()
  }

  /// Whether a run that was stopped is to be saved.
  var savesCheckpoint: Bool { saves.load(ordering: .relaxed) }

  /// Time that training took, waiting left out.
  var seconds: Double { Double(nanoseconds.load(ordering: .relaxed)) * 1e-9 }

  func turn(interruptible: Bool, _ work: () -> Void) throws(TrainingInterruption) {
    let time = lease.train(unless: { interruptible && stopFlag.isRaised }, work)
    guard let time else { throw TrainingInterruption() }
    nanoseconds.wrappingAdd(Int(time / .nanoseconds(1)), ordering: .relaxed)
    metrics.update { $0.trainingSlices.observe(time / .seconds(1)) }
  }
}
