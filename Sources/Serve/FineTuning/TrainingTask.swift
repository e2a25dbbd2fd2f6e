import Synchronization
import Train

/// Raised once, looked at by whoever reads data that may no longer be wanted.
final class StopFlag: Sendable {
  private let isRaisedNow = Atomic<Bool>(false)

  var isRaised: Bool { isRaisedNow.load(ordering: .relaxed) }
  func raise() { isRaisedNow.store(true, ordering: .relaxed) }
}

/// A trainer as the engine drives it.
///
/// `@unchecked Sendable`: the trainer belongs to the engine's thread from `Engine.perform` until `onEnd` is called, and
/// to whoever that tells from then on; the rest is constant or atomic.
final class TrainingTask: SlicedWork, @unchecked Sendable {
  let trainer: Trainer
  private let isToStop = Atomic<Bool>(false)
  private let nanoseconds = Atomic<Int>(0)
  private let onEvents: @Sendable ([TrainerEvent]) -> Void
  private let onEnd: @Sendable () -> Void

  /// - Parameters:
  ///   - onEvents: called on the engine's thread with what the trainer reports
  ///   - onEnd: called there when the run has ended, or stands still because of `stop` or the engine's own end
  init(
    _ trainer: Trainer, onEvents: @escaping @Sendable ([TrainerEvent]) -> Void, onEnd: @escaping @Sendable () -> Void
  ) {
    self.trainer = trainer
    self.onEvents = onEvents
    self.onEnd = onEnd
  }

  /// Ends the work at a point from which a checkpoint can be written. From any thread; a task that waits has to be
  /// woken.
  func stop() { isToStop.store(true, ordering: .relaxed) }

  /// Time spent in slices.
  var seconds: Double { Double(nanoseconds.load(ordering: .relaxed)) * 1e-9 }

  func advance() -> SliceOutcome {
    if isToStop.load(ordering: .relaxed), !trainer.isUpdating {
      onEnd()
      return .done
    }
    let started = ContinuousClock.now
    let events = trainer.advance()
    nanoseconds.wrappingAdd(Int(started.duration(to: .now) / .nanoseconds(1)), ordering: .relaxed)
    report(events)
    if trainer.state != .running {
      onEnd()
      return .done
    }
    return trainer.isWaiting ? .waiting : .more
  }

  func engineStops() {
    var events: [TrainerEvent] = []
    trainer.completeUpdate { events.append($0) }
    report(events)
    onEnd()
  }

  private func report(_ events: [TrainerEvent]) {
    if !events.isEmpty { onEvents(events) }
  }
}
