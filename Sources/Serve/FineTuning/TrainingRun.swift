import Dispatch
import Synchronization
import Train

/// A flag that is raised once to stop work that is no longer needed, such as reading a job's data.
final class StopFlag: Sendable {
  private let isRaisedNow = Atomic<Bool>(false)

  var isRaised: Bool { isRaisedNow.load(ordering: .relaxed) }
  func raise() { isRaisedNow.store(true, ordering: .relaxed) }
}

/// Lets other threads control the running job's thread. It makes the job's kernel calls when the engine's passes leave
/// the thread pool free, and stops the job.
final class TrainingRun: TrainingSlices, Sendable {
  /// Also stops the reading of the job's data.
  let stopFlag = StopFlag()
  private let saves = Atomic<Bool>(true)
  private let nanoseconds = Atomic<Int>(0)
  private let lease: ComputeLease
  private let metrics: EngineMetrics

  init(beside engine: Engine) {
    lease = engine.lease
    metrics = engine.metrics
  }

  /// Stops the run before its next kernel call that is not part of an update. From any thread.
  /// - Parameter saving: whether to write a checkpoint of the last step; the last call decides
  func stop(saving: Bool) {
    saves.store(saving, ordering: .relaxed)
    stopFlag.raise()
    lease.wakeTraining()
  }

  /// Called on the job's thread before it does something else for long, or ends, so that no pass waits for it.
  func leavePool() { lease.endHandOver() }

  /// Whether a checkpoint is to be written after a stop.
  var savesCheckpoint: Bool { saves.load(ordering: .relaxed) }

  /// Seconds of training, without the time that it waited.
  var seconds: Double { Double(nanoseconds.load(ordering: .relaxed)) * 1e-9 }

  func slice(interruptible: Bool, _ work: () -> Void) throws(TrainingInterruption) {
    let time = lease.train(unless: { interruptible && stopFlag.isRaised }, work)
    guard let time else { throw TrainingInterruption() }
    nanoseconds.wrappingAdd(Int(time / .nanoseconds(1)), ordering: .relaxed)
    metrics.update { $0.trainingSlices.observe(time / .seconds(1)) }
  }
}
