import Kernels
import Model
import TestSupport
import Testing

@testable import Serve

/// Training between passes, on a clock that is set.
@Suite struct SchedulerTrainingTests {
  private func make(share: Double, target: Duration? = nil) -> Scheduler<SimulatedSequence> {
    Scheduler(limits: .init(rowBudget: 32, running: 8, logitRows: 32, stepTarget: target, trainingShare: share))
  }

  private func submission(_ id: UInt64, _ length: Int) -> SimulatedSequence {
    SimulatedSequence(id: GenerationID(value: id), .init(length, 1_000_000))
  }

  private func next(_ scheduler: inout Scheduler<SimulatedSequence>) -> Scheduler<SimulatedSequence>.Action {
    scheduler.next(now: .zero, freeBlocks: 100)
  }

  @Test func itFillsTheTimeWhenNothingRuns() {
    var action = Scheduler<SimulatedSequence>.Action.idle
    var scheduler = make(share: 0.1)
    action = next(&scheduler)
    #expect(action == .idle)
    scheduler.hasTraining = true
    for _ in 0..<100 {
      action = next(&scheduler)
      #expect(action == .train)
      scheduler.trained(for: .milliseconds(3))
    }
    let request = submission(1, 5)
    scheduler.enqueue(request, now: .zero)
    action = next(&scheduler)
    #expect(action == .admit(request), "a request waits for no more")
    scheduler.hasTraining = false
    scheduler.remove(GenerationID(value: 1), now: .zero)
    action = next(&scheduler)
    #expect(action == .idle)
  }

  /// Seconds of training among passes of 20 ms that leave no time over.
  private func underLoad(_ scheduler: inout Scheduler<SimulatedSequence>, seconds: Double) -> Double {
    scheduler.enqueue(submission(7, 4), now: .zero)
    var (elapsed, trained) = (0.0, 0.0)
    var longest = 0
    var inARow = 0
    while elapsed < seconds {
      switch scheduler.next(now: .seconds(elapsed), freeBlocks: 100_000) {
      case .train:
        scheduler.trained(for: .milliseconds(4))
        trained += 0.004
        elapsed += 0.004
        inARow += 1
        longest = max(longest, inARow)
      case .step(let chunks):
        for chunk in chunks { chunk.sequence.advance(to: chunk.positions.upperBound) }
        scheduler.completed(rows: 1, in: .milliseconds(20))
        elapsed += 0.02
        inARow = 0
      case .admit: break
      default: Issue.record("neither passes nor training")
      }
    }
    // At 0.3 a pass of 20 ms leaves 8.6 ms to training: two slices and a part of the third.
    #expect(longest <= 3, "slices are spread")
    return trained
  }

  @Test(arguments: [0.05, 0.1, 0.3])
  func itKeepsItsShareUnderLoad(share: Double) {
    var scheduler = make(share: share)
    scheduler.hasTraining = true
    let trained = underLoad(&scheduler, seconds: 30)
    #expect(abs(trained / 30 - share) < 0.02)
  }

  /// Time without a pass while requests decode, with prompts beside them: never more than the target.
  @Test(arguments: [0.0, 0.1, 0.3])
  func itKeepsTheTarget(share: Double) {
    let target = Duration.milliseconds(40)
    var scheduler = make(share: share, target: target)
    scheduler.hasTraining = true
    for id in 1...3 { scheduler.enqueue(submission(UInt64(id), id == 1 ? 2 : 20_000), now: .zero) }
    var (elapsed, trained, last) = (Duration.zero, Duration.zero, Duration.zero)
    var gaps: [Duration] = []
    while elapsed < .seconds(20) {
      switch scheduler.next(now: elapsed, freeBlocks: 100_000) {
      case .train:
        scheduler.trained(for: .milliseconds(1))
        elapsed += .milliseconds(1)
        trained += .milliseconds(1)
      case .step(let chunks):
        for chunk in chunks { chunk.sequence.advance(to: chunk.positions.upperBound) }
        // A millisecond a row.
        let rows = chunks.reduce(0) { $0 + $1.positions.count }
        elapsed += .milliseconds(rows)
        scheduler.completed(rows: rows, in: .milliseconds(rows))
        if chunks.contains(where: { $0.sequence.id.value == 1 }) {
          gaps.append(elapsed - last)
          last = elapsed
        }
      case .admit: break
      default: Issue.record("neither passes nor training")
      }
    }
    // The first passes find out how long a row takes; a slice may be the one too many.
    #expect(gaps.dropFirst(8).allSatisfy { $0 <= target + .milliseconds(1) })
    #expect(gaps.count > 300)
    #expect(abs(trained / elapsed - share) < 0.02)
  }

  /// However requests come and go, training has its share of every ten seconds.
  @Test func itNeverStarves() {
    var scheduler = make(share: 0.1)
    scheduler.hasTraining = true
    var random = TinyRandom(seed: 7)
    var (elapsed, trained, since) = (Duration.zero, Duration.zero, Duration.zero)
    var (id, longest) = (UInt64(0), Duration.zero)
    while elapsed < .seconds(300) {
      while scheduler.runningCount + scheduler.waitingCount < 4 {
        id += 1
        scheduler.enqueue(submission(id, Int.random(in: 1...60, using: &random)), now: .zero)
      }
      switch scheduler.next(now: elapsed, freeBlocks: 100_000) {
      case .train:
        scheduler.trained(for: .milliseconds(2))
        elapsed += .milliseconds(2)
        trained += .milliseconds(2)
        since = elapsed
      case .step(let chunks):
        for chunk in chunks { chunk.sequence.advance(to: chunk.positions.upperBound) }
        let time = Duration.milliseconds(Int.random(in: 5...40, using: &random))
        elapsed += time
        scheduler.completed(rows: chunks.count, in: time)
        longest = max(longest, elapsed - since)
        for chunk in chunks where Int.random(in: 0..<20, using: &random) == 0 {
          scheduler.remove(chunk.sequence.id, now: .zero)
        }
      case .admit: break
      default: Issue.record("neither passes nor training")
      }
    }
    #expect(longest < .milliseconds(100))
    #expect(trained / elapsed > 0.09)
  }

  /// A request that comes while training has the machine waits for the slice under way, and for no other.
  @Test func noRequestWaitsForMoreThanASlice() {
    var scheduler = make(share: 0.3)
    scheduler.hasTraining = true
    for id in 1...200 {
      for _ in 0..<id % 7 + 1 {
        let action = next(&scheduler)
        #expect(action == .train)
        scheduler.trained(for: .milliseconds(2))
      }
      let request = submission(UInt64(id), 4)
      scheduler.enqueue(request, now: .zero)
      let admission = next(&scheduler)
      #expect(admission == .admit(request))
      let pass = next(&scheduler)
      #expect(pass == .step([.init(sequence: request, positions: 0..<4)]))
      scheduler.completed(rows: 4, in: .milliseconds(5))
      scheduler.remove(GenerationID(value: UInt64(id)), now: .zero)
    }
  }

  @Test func noShareIsNone() {
    var scheduler = make(share: 0)
    scheduler.hasTraining = true
    let trained = underLoad(&scheduler, seconds: 5)
    #expect(trained == 0)
  }

  /// Who had idle time before does not slow requests down at once.
  @Test func idleTimeCounts() {
    var action = Scheduler<SimulatedSequence>.Action.idle
    var scheduler = make(share: 0.1)
    scheduler.hasTraining = true
    for _ in 0..<2000 {
      action = next(&scheduler)
      #expect(action == .train)
      scheduler.trained(for: .milliseconds(4))
    }
    let trained = underLoad(&scheduler, seconds: 5)
    #expect(trained == 0)
  }
}
