import Kernels
import Model
import TestSupport
import Testing

@testable import Serve

/// Passes and training in slices, as `ComputeLease` hands them out, on a clock that is set.
private struct SharedTime {
  enum Action: Equatable {
    /// A piece of training, reported by `trained` before the next question.
    case train
    case serve(Scheduler<SimulatedSequence>.Action)
  }

  var scheduler: Scheduler<SimulatedSequence>
  var pacer: TrainingPacer
  /// A training thread waits for its slice.
  var hasTraining = false
  /// A pass that waits for what training is owed.
  private var planned: Scheduler<SimulatedSequence>.Action?

  init(share: Double, target: Duration? = nil) {
    scheduler = Scheduler(limits: .init(rowBudget: 32, running: 8, logitRows: 32, stepTarget: target))
    pacer = TrainingPacer(share: share)
  }

  mutating func next(now: Duration = .zero, freeBlocks: Int = 100) -> Action {
    if planned == nil {
      scheduler.trainingShare = hasTraining ? pacer.share : 0
      let action = scheduler.next(now: now, freeBlocks: freeBlocks)
      pacer.requestsRun = action != .idle
      switch action {
      case .step: planned = action
      case .idle where hasTraining && pacer.mayTrain: return .train
      default: return .serve(action)
      }
    }
    if hasTraining, pacer.mayTrain { return .train }
    defer { planned = nil }
    return .serve(planned ?? .idle)
  }

  mutating func completed(rows: Int, in time: Duration) {
    scheduler.completed(rows: rows, in: time)
    if hasTraining { pacer.served(for: time) }
  }

  mutating func trained(for time: Duration) { pacer.trained(for: time) }
}

/// Training between passes, on a clock that is set.
@Suite struct TrainingPacerTests {
  private func submission(_ id: UInt64, _ length: Int) -> SimulatedSequence {
    SimulatedSequence(id: GenerationID(value: id), .init(length, 1_000_000))
  }

  @Test func itFillsTheTimeWhenNothingRuns() {
    var action = SharedTime.Action.serve(.idle)
    var time = SharedTime(share: 0.1)
    action = time.next()
    #expect(action == .serve(.idle))
    time.hasTraining = true
    for _ in 0..<100 {
      action = time.next()
      #expect(action == .train)
      time.trained(for: .milliseconds(3))
    }
    let request = submission(1, 5)
    time.scheduler.enqueue(request, now: .zero)
    action = time.next()
    #expect(action == .serve(.admit(request)), "a request waits for no more")
    time.hasTraining = false
    time.scheduler.remove(GenerationID(value: 1), now: .zero)
    action = time.next()
    #expect(action == .serve(.idle))
  }

  /// Seconds of training among passes of 20 ms that leave no time over.
  private func underLoad(_ time: inout SharedTime, seconds: Double) -> Double {
    time.scheduler.enqueue(submission(7, 4), now: .zero)
    var (elapsed, trained) = (0.0, 0.0)
    var longest = 0
    var inARow = 0
    while elapsed < seconds {
      switch time.next(now: .seconds(elapsed), freeBlocks: 100_000) {
      case .train:
        time.trained(for: .milliseconds(4))
        trained += 0.004
        elapsed += 0.004
        inARow += 1
        longest = max(longest, inARow)
      case .serve(.step(let chunks)):
        for chunk in chunks { chunk.sequence.advance(to: chunk.positions.upperBound) }
        time.completed(rows: 1, in: .milliseconds(20))
        elapsed += 0.02
        inARow = 0
      case .serve(.admit): break
      default: Issue.record("neither passes nor training")
      }
    }
    // At 0.3 a pass of 20 ms leaves 8.6 ms to training: two slices and a part of the third.
    #expect(longest <= 3, "slices are spread")
    return trained
  }

  @Test(arguments: [0.05, 0.1, 0.3])
  func itKeepsItsShareUnderLoad(share: Double) {
    var time = SharedTime(share: share)
    time.hasTraining = true
    let trained = underLoad(&time, seconds: 30)
    #expect(abs(trained / 30 - share) < 0.02)
  }

  /// Time without a pass while requests decode, with prompts beside them: never more than the target.
  @Test(arguments: [0.0, 0.1, 0.3])
  func itKeepsTheTarget(share: Double) {
    let target = Duration.milliseconds(40)
    var time = SharedTime(share: share, target: target)
    time.hasTraining = true
    for id in 1...3 { time.scheduler.enqueue(submission(UInt64(id), id == 1 ? 2 : 20_000), now: .zero) }
    var (elapsed, trained, last) = (Duration.zero, Duration.zero, Duration.zero)
    var gaps: [Duration] = []
    while elapsed < .seconds(20) {
      switch time.next(now: elapsed, freeBlocks: 100_000) {
      case .train:
        time.trained(for: .milliseconds(1))
        elapsed += .milliseconds(1)
        trained += .milliseconds(1)
      case .serve(.step(let chunks)):
        for chunk in chunks { chunk.sequence.advance(to: chunk.positions.upperBound) }
        // A millisecond a row.
        let rows = chunks.reduce(0) { $0 + $1.positions.count }
        elapsed += .milliseconds(rows)
        time.completed(rows: rows, in: .milliseconds(rows))
        if chunks.contains(where: { $0.sequence.id.value == 1 }) {
          gaps.append(elapsed - last)
          last = elapsed
        }
      case .serve(.admit): break
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
    var time = SharedTime(share: 0.1)
    time.hasTraining = true
    var random = TinyRandom(seed: 7)
    var (elapsed, trained, since) = (Duration.zero, Duration.zero, Duration.zero)
    var (id, longest) = (UInt64(0), Duration.zero)
    while elapsed < .seconds(300) {
      while time.scheduler.runningCount + time.scheduler.waitingCount < 4 {
        id += 1
        time.scheduler.enqueue(submission(id, Int.random(in: 1...60, using: &random)), now: .zero)
      }
      switch time.next(now: elapsed, freeBlocks: 100_000) {
      case .train:
        time.trained(for: .milliseconds(2))
        elapsed += .milliseconds(2)
        trained += .milliseconds(2)
        since = elapsed
      case .serve(.step(let chunks)):
        for chunk in chunks { chunk.sequence.advance(to: chunk.positions.upperBound) }
        let pass = Duration.milliseconds(Int.random(in: 5...40, using: &random))
        elapsed += pass
        time.completed(rows: chunks.count, in: pass)
        longest = max(longest, elapsed - since)
        for chunk in chunks where Int.random(in: 0..<20, using: &random) == 0 {
          time.scheduler.remove(chunk.sequence.id, now: .zero)
        }
      case .serve(.admit): break
      default: Issue.record("neither passes nor training")
      }
    }
    #expect(longest < .milliseconds(100))
    #expect(trained / elapsed > 0.09)
  }

  /// A request that comes while training has the machine waits for the slice under way, and for no other.
  @Test func noRequestWaitsForMoreThanASlice() {
    var time = SharedTime(share: 0.3)
    time.hasTraining = true
    for id in 1...200 {
      for _ in 0..<id % 7 + 1 {
        let action = time.next()
        #expect(action == .train)
        time.trained(for: .milliseconds(2))
      }
      let request = submission(UInt64(id), 4)
      time.scheduler.enqueue(request, now: .zero)
      let admission = time.next()
      #expect(admission == .serve(.admit(request)))
      let pass = time.next()
      #expect(pass == .serve(.step([.init(sequence: request, positions: 0..<4)])))
      time.completed(rows: 4, in: .milliseconds(5))
      time.scheduler.remove(GenerationID(value: UInt64(id)), now: .zero)
    }
  }

  @Test func noShareIsNone() {
    var time = SharedTime(share: 0)
    time.hasTraining = true
    let trained = underLoad(&time, seconds: 5)
    #expect(trained == 0)
  }

  /// Who had idle time before does not slow requests down at once.
  @Test func idleTimeCounts() {
    var action = SharedTime.Action.serve(.idle)
    var time = SharedTime(share: 0.1)
    time.hasTraining = true
    for _ in 0..<2000 {
      action = time.next()
      #expect(action == .train)
      time.trained(for: .milliseconds(4))
    }
    let trained = underLoad(&time, seconds: 5)
    #expect(trained == 0)
  }
}
