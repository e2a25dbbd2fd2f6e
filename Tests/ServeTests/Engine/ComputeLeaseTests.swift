import Dispatch
import Foundation
import Synchronization
import Testing

@testable import Serve

/// The pool is one thread's at a time, and passes come first.
@Suite(.serialized) struct ComputeLeaseTests {
  /// Counts who has the pool, and what was done.
  private final class Log: Sendable {
    private let holders = Atomic<Int>(0)
    private let overlaps = Atomic<Int>(0)
    let passes = Atomic<Int>(0)
    let pieces = Atomic<Int>(0)

    var hasOverlap: Bool { overlaps.load(ordering: .sequentiallyConsistent) > 0 }

    func hold(_ body: () -> Void) {
      if holders.wrappingAdd(1, ordering: .sequentiallyConsistent).oldValue > 0 {
        overlaps.wrappingAdd(1, ordering: .sequentiallyConsistent)
      }
      body()
      holders.wrappingSubtract(1, ordering: .sequentiallyConsistent)
    }
  }

  private func train(_ lease: ComputeLease, _ log: Log, until stop: Flag, milliseconds: UInt32 = 1) -> Flag {
    let ended = Flag()
    Thread.detachNewThread {
      while lease.train(unless: { stop.timesSet > 0 }, { log.hold { usleep(milliseconds * 1000) } }) != nil {
        log.pieces.wrappingAdd(1, ordering: .relaxed)
      }
      ended.set()
    }
    return ended
  }

  private func pass(_ lease: ComputeLease, _ log: Log) {
    let started = lease.serve {
      let started = ContinuousClock.now
      log.hold { usleep(4000) }
      return started
    }
    log.passes.wrappingAdd(1, ordering: .relaxed)
    lease.completedPass(in: started.duration(to: .now))
  }

  private func pieces(_ log: Log) -> Int { log.pieces.load(ordering: .relaxed) }

  @Test func trainingHasTheTimeWhenNoRequestRuns() {
    let (lease, log, stop) = (ComputeLease(trainingShare: 0), Log(), Flag())
    let ended = train(lease, log, until: stop)
    #expect(eventually { pieces(log) > 20 })
    for _ in 0..<20 { pass(lease, log) }
    // A request runs, and there is no share.
    let before = pieces(log)
    usleep(20_000)
    #expect(pieces(log) == before)
    lease.servingPauses()
    #expect(eventually { pieces(log) > before + 20 })
    stop.set()
    lease.wakeTraining()
    #expect(ended.wait())
    #expect(!log.hasOverlap)
  }

  /// Passes that follow each other leave training its share, and nobody is left asleep. The clock is moved by the work
  /// alone, so the result does not depend on how busy the machine is.
  @Test func itKeepsItsShareUnderLoad() {
    let clock = Atomic<Int>(0)
    let start = ContinuousClock.now
    let lease = ComputeLease(trainingShare: 0.3) { start + .milliseconds(clock.load(ordering: .relaxed)) }
    let pieces = Atomic<Int>(0)
    let (stop, ended) = (Flag(), Flag())
    func pass(besideTraining hasThread: Bool) {
      lease.serve {
        // Only a thread that waits for the pool is owed time.
        if hasThread { while lease.trainingShare == 0 { usleep(100) } }
        _ = clock.wrappingAdd(4, ordering: .relaxed)
      }
      lease.completedPass(in: .milliseconds(4))
    }
    pass(besideTraining: false)
    Thread.detachNewThread {
      while lease.train(unless: { stop.timesSet > 0 }, { clock.wrappingAdd(1, ordering: .relaxed) }) != nil {
        pieces.wrappingAdd(1, ordering: .relaxed)
      }
      ended.set()
    }
    #expect(eventually { lease.trainingShare > 0 })
    let (before, began) = (pieces.load(ordering: .relaxed), clock.load(ordering: .relaxed))
    for _ in 0..<200 { pass(besideTraining: true) }
    let trained = pieces.load(ordering: .relaxed) - before
    let share = Double(trained) / Double(clock.load(ordering: .relaxed) - began)
    #expect(share > 0.2 && share < 0.4, "\(share)")
    stop.set()
    lease.wakeTraining()
    #expect(ended.wait())
  }

  /// Training that is stopped while it waits behind requests ends at once.
  @Test func aThreadThatWaitsCanBeStopped() {
    let (lease, log, stop) = (ComputeLease(trainingShare: 0), Log(), Flag())
    pass(lease, log)
    let ended = train(lease, log, until: stop)
    usleep(10_000)
    #expect(pieces(log) == 0)
    stop.set()
    lease.wakeTraining()
    #expect(ended.wait())
    #expect(pieces(log) == 0)
  }

  /// A pass does not wait for training that is owed time and does something else.
  @Test func passesDoNotWaitForTrainingThatIsAway() {
    // The clock stands still, so a pass that waited would wait for ever.
    let time = ContinuousClock.now
    let (lease, log) = (ComputeLease(trainingShare: 0.5) { time }, Log())
    let (trained, go, done, passed) = (Flag(), Flag(), Flag(), Flag())
    Thread.detachNewThread {
      _ = lease.train(unless: { false }, {})
      trained.set()
      // As a checkpoint that is written would take.
      _ = go.wait()
      done.set()
    }
    #expect(trained.wait())
    Thread.detachNewThread {
      for _ in 0..<50 { pass(lease, log) }
      passed.set()
    }
    #expect(passed.wait())
    go.set()
    #expect(done.wait())
  }

  /// A pass that has handed the pool over does not wait for training that then does something else.
  @Test func aHandOverEndsWhenTrainingLeaves() {
    // The clock stands still, so a hand-over does not end by itself.
    let time = ContinuousClock.now
    let (lease, log) = (ComputeLease(trainingShare: 0.5) { time }, Log())
    let (go, done, passed) = (Flag(), Flag(), Flag())
    pass(lease, log)
    Thread.detachNewThread {
      _ = lease.train(unless: { false }, {})
      lease.endHandOver()
      _ = go.wait()
      done.set()
    }
    #expect(eventually { lease.trainingShare > 0 })
    lease.completedPass(in: .seconds(1))
    Thread.detachNewThread {
      pass(lease, log)
      passed.set()
    }
    #expect(passed.wait())
    go.set()
    #expect(done.wait())
  }

  /// Nobody is left asleep, wherever the system sets a thread aside: here after each look at the clock.
  @Test func handOversThatEndDuringACallWakeThePass() {
    let lease = ComputeLease(trainingShare: 0.3) {
      let time = ContinuousClock.now
      usleep(200)
      return time
    }
    let (log, stop, ended) = (Log(), Flag(), Flag())
    Thread.detachNewThread {
      // About as long as a hand-over, so that many end with a call.
      while lease.train(unless: { stop.timesSet > 0 }, { usleep(UInt32.random(in: 500...3000)) }) != nil {}
      ended.set()
    }
    Thread.detachNewThread {
      for _ in 0..<300 { pass(lease, log) }
      stop.set()
      lease.servingPauses()
      lease.wakeTraining()
    }
    #expect(ended.wait(), "\(log.passes.load(ordering: .relaxed)) passes were made")
  }
}
