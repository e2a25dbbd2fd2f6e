import Kernels
import Model
import TestSupport
import Testing

@testable import Serve

/// Training between passes, on a clock that is set.
@Suite struct SchedulerTrainingTests {
  private func make(share: Double, target: Duration? = nil) -> Scheduler {
    Scheduler(limits: .init(rowBudget: 32, running: 8, logitRows: 32, stepTarget: target, trainingShare: share))
  }

  private func submission(_ id: UInt64, _ length: Int) -> Scheduler.Submission {
    .init(
      id: GenerationID(value: id),
      stream: StreamKey(client: ClientIdentity(address: "a"), adapters: PrefixKey(.none, group: 0)),
      promptLength: length)
  }

  private func next(_ scheduler: inout Scheduler) -> Scheduler.Action {
    scheduler.next(now: .zero, freeBlocks: 100)
  }

  @Test func itFillsTheTimeWhenNothingRuns() {
    var action = Scheduler.Action.idle
    var scheduler = make(share: 0.1)
    action = next(&scheduler)
    #expect(action == .idle)
    scheduler.hasTraining = true
    for _ in 0..<100 {
      action = next(&scheduler)
      #expect(action == .train)
      scheduler.trained(for: .milliseconds(3))
    }
    scheduler.enqueue(submission(1, 5), now: .zero)
    action = next(&scheduler)
    #expect(action == .admit(GenerationID(value: 1)), "a request waits for no more")
    scheduler.hasTraining = false
    scheduler.remove(GenerationID(value: 1), now: .zero)
    action = next(&scheduler)
    #expect(action == .idle)
  }

  /// Seconds of training among passes of 20 ms that leave no time over.
  private func underLoad(_ scheduler: inout Scheduler, seconds: Double) -> Double {
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
      case .step:
        scheduler.completed(rows: 1, in: .milliseconds(20))
        elapsed += 0.02
        inARow = 0
      case .admit(let id): scheduler.found(id, computed: 0, blocks: 0)
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
      case .step(let slices):
        // A millisecond a row.
        let rows = slices.reduce(0) { $0 + $1.positions.count }
        elapsed += .milliseconds(rows)
        scheduler.completed(rows: rows, in: .milliseconds(rows))
        if slices.contains(where: { $0.id.value == 1 }) {
          gaps.append(elapsed - last)
          last = elapsed
        }
      case .admit(let id): scheduler.found(id, computed: 0, blocks: 0)
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
      case .step(let slices):
        let time = Duration.milliseconds(Int.random(in: 5...40, using: &random))
        elapsed += time
        scheduler.completed(rows: slices.count, in: time)
        longest = max(longest, elapsed - since)
        for slice in slices where Int.random(in: 0..<20, using: &random) == 0 { scheduler.remove(slice.id, now: .zero) }
      case .admit(let id): scheduler.found(id, computed: 0, blocks: 0)
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
      scheduler.enqueue(submission(UInt64(id), 4), now: .zero)
      let admission = next(&scheduler)
      #expect(admission == .admit(GenerationID(value: UInt64(id))))
      scheduler.found(GenerationID(value: UInt64(id)), computed: 0, blocks: 0)
      let pass = next(&scheduler)
      #expect(pass == .step([.init(id: GenerationID(value: UInt64(id)), positions: 0..<4)]))
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
    var action = Scheduler.Action.idle
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
