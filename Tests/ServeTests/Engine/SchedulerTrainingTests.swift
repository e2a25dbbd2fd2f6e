import Kernels
import Model
import Testing

@testable import Serve

/// Training between passes, on a clock that is set.
@Suite struct SchedulerTrainingTests {
  private func make(share: Double) -> Scheduler {
    Scheduler(limits: .init(rowBudget: 32, running: 8, logitRows: 32, stepTarget: nil, trainingShare: share))
  }

  private func submission(_ id: UInt64, _ length: Int) -> Scheduler.Submission {
    .init(
      id: GenerationID(value: id), stream: StreamKey(client: "a", adapters: PrefixKey(.none, group: 0)),
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
    scheduler.enqueue(submission(1, 5))
    action = next(&scheduler)
    #expect(action == .admit(GenerationID(value: 1)), "a request waits for no more")
    scheduler.hasTraining = false
    scheduler.remove(GenerationID(value: 1))
    action = next(&scheduler)
    #expect(action == .idle)
  }

  /// Seconds of training among passes of 20 ms that leave no time over.
  private func underLoad(_ scheduler: inout Scheduler, seconds: Double) -> Double {
    scheduler.enqueue(submission(7, 4))
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
