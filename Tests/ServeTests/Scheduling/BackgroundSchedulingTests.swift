import Kernels
import TestSupport
import Testing

@testable import Serve

/// Background sequences only use the passes that others leave.
@Suite struct BackgroundSchedulingTests {
  typealias Simulation = SchedulerSimulation
  typealias Request = Simulation.Request

  @Test func backgroundPausesWhileOthersRun() {
    var simulation = Simulation(SchedulerTests.limits(16), blocks: 40)
    let background = simulation.submit(Request(20, 10, client: "batches"))
    #expect(simulation.step()[background] == 16)
    let other = simulation.submit(Request(8, 3))
    for _ in 0..<3 { #expect(Set(simulation.step().keys) == [other]) }
    #expect(simulation.finished == [other] && simulation.preemptions == 0)
    // It goes on where it was.
    #expect(simulation.step()[background] == 4)
  }

  @Test func backgroundGivesItsPlaceAndItsBlocks() {
    var simulation = Simulation(SchedulerTests.limits(64, running: 1), blocks: 3)
    let background = simulation.submit(Request(64, 10, client: "batches"))
    #expect(simulation.step()[background] == 64)
    let other = simulation.submit(Request(60, 2))
    #expect(simulation.step()[other] == 60)
    #expect(simulation.preemptions == 1)
    while !simulation.live.isEmpty { simulation.step() }
    #expect(simulation.finished == [other, background])
  }

  private static func limits(_ rows: Int, share: Double, running: Int = 64) -> SchedulerLimits {
    var limits = SchedulerTests.limits(rows, running: running)
    limits.backgroundShare = share
    return limits
  }

  /// A server that is never idle: others always decode, and always have their rows.
  @Test func backgroundHasItsShareBesideOthers() {
    var simulation = Simulation(Self.limits(16, share: 0.125), blocks: 400)
    let others: Set = [simulation.submit(Request(1, 3000)), simulation.submit(Request(1, 3000))]
    let background: Set = [
      simulation.submit(Request(40, 20, client: "batches")), simulation.submit(Request(40, 20, client: "batches")),
    ]
    var (own, theirs, passes) = (0, 0, 0)
    while !background.isSubset(of: simulation.finished), passes < 2000 {
      let rows = simulation.step()
      #expect(others.allSatisfy { rows[$0] == 1 }, "no other request waits for the background")
      let extra = rows.filter { background.contains($0.key) }.values
      // One row now and then: no pass is much longer than it would be.
      #expect(extra.reduce(0, +) <= 1)
      own += extra.reduce(0, +)
      theirs += 2
      #expect(Double(own) <= 0.125 * Double(theirs))
      passes += 1
    }
    // Two prompts of 40, and 19 positions of each answer, are 118 rows, which are owed after 118 / 0.125 / 2 passes.
    #expect(own == 118 && abs(passes - 472) < 10)
  }

  /// A server where requests always wait for places: the background keeps one of them once it is owed a row.
  @Test func backgroundHasItsShareWhileOthersWait() {
    var simulation = Simulation(Self.limits(16, share: 0.125, running: 3), blocks: 400)
    let background = simulation.submit(Request(20, 10, client: "batches"))
    var passes = 0
    while !simulation.finished.contains(background), passes < 2000 {
      while simulation.live.values.count(where: { !$0.isBackground }) < 6 { _ = simulation.submit(Request(1, 20)) }
      simulation.step()
      passes += 1
    }
    // 29 rows are owed after 29 / 0.125 / 2 passes.
    #expect(simulation.finished.contains(background) && passes < 200)
    #expect(simulation.preemptions <= 1)
  }

  @Test func backgroundGetsTurnsOfPassesWithOneRow() {
    var simulation = Simulation(Self.limits(1, share: 0.25), blocks: 40)
    let other = simulation.submit(Request(1, 1000))
    let background = simulation.submit(Request(8, 2, client: "batches"))
    let passes = (0..<60).map { _ in simulation.step() }
    #expect(passes.allSatisfy { $0 == [other: 1] || $0 == [background: 1] })
    #expect(simulation.finished == [background] && passes.count { $0[background] == 1 } == 9)
    // At least four passes of the others lie between two of the background.
    let turns = passes.indices.filter { passes[$0][background] == 1 }
    #expect(zip(turns, turns.dropFirst()).allSatisfy { $1 - $0 >= 4 })
  }

  /// Whatever comes and goes, the background has no more than its share beside others, and everything ends.
  @Test(arguments: 1...4 as ClosedRange<UInt64>) func everyMixWithAShareEnds(seed: UInt64) {
    var random = TinyRandom(seed: seed * 7_368_787)
    var beside = 0
    for _ in 0..<200 {
      let share = Double.random(in: 0.05...1, using: &random)
      let rowBudget = Int.random(in: 1...24, using: &random)
      var simulation = Simulation(
        Self.limits(rowBudget, share: share, running: Int.random(in: 1...8, using: &random)),
        blocks: Int.random(in: 7...12, using: &random))
      var (left, passes, own, theirs) = (20, 0, 0, 0)
      while left > 0 || !simulation.live.isEmpty {
        if left > 0, Int.random(in: 0..<4, using: &random) == 0 || simulation.live.isEmpty {
          left -= 1
          let isBackground = Bool.random(using: &random)
          simulation.submit(
            Request(
              Int.random(in: 1...90, using: &random), Int.random(in: 0...40, using: &random),
              scores: Bool.random(using: &random), client: isBackground ? "batches" : "a"),
            group: Int.random(in: 0..<3, using: &random) == 0 ? (isBackground ? 1 : 2) : nil)
        }
        let isBackground = simulation.live.mapValues(\.isBackground)
        let rows = simulation.step()
        let background = rows.filter { isBackground[$0.key] == true }.values.reduce(0, +)
        let others = rows.values.reduce(-background, +)
        if isBackground.values.contains(false) {
          own += background
          theirs += others
          if background > 0 { beside += 1 }
          #expect(Double(own) <= share * Double(theirs) + 1 + share * Double(rowBudget) + 1e-6)
        } else {
          // What is owed is kept, and was counted.
          (own, theirs) = (0, 0)
        }
        simulation.now += .milliseconds(1)
        passes += 1
        guard passes < 30000 else { return _ = Issue.record("no end in sight") }
      }
    }
    #expect(beside > 500)
  }

  @Test(arguments: 1...4 as ClosedRange<UInt64>) func everyMixEnds(seed: UInt64) {
    var random = TinyRandom(seed: seed * 104_729)
    var (preemptions, pauses) = (0, 0)
    for _ in 0..<300 {
      var simulation = Simulation(
        SchedulerTests.limits(Int.random(in: 1...24, using: &random), running: Int.random(in: 1...8, using: &random)),
        blocks: Int.random(in: 7...12, using: &random))
      var left = 20
      var passes = 0
      while left > 0 || !simulation.live.isEmpty {
        if left > 0, Int.random(in: 0..<4, using: &random) == 0 || simulation.live.isEmpty {
          left -= 1
          let isBackground = Bool.random(using: &random)
          simulation.submit(
            Request(
              Int.random(in: 1...90, using: &random), Int.random(in: 0...40, using: &random),
              scores: Bool.random(using: &random), client: isBackground ? "batches" : "a",
              family: Bool.random(using: &random) ? 1 : nil, alike: 64),
            group: Int.random(in: 0..<3, using: &random) == 0 ? (isBackground ? 1 : 2) : nil)
        }
        let isBackground = simulation.live.mapValues(\.isBackground)
        let rows = simulation.step()
        let kinds = Set(rows.keys.map { isBackground[$0] })
        #expect(kinds.count < 2, "a pass has rows of one kind")
        // A sequence that is not background never waits for one that is.
        if isBackground.values.contains(false) { #expect(kinds == [false]) }
        if kinds == [false], isBackground.values.contains(true) { pauses += 1 }
        simulation.now += .milliseconds(1)
        passes += 1
        guard passes < 30000 else { return _ = Issue.record("no end in sight") }
      }
      preemptions += simulation.preemptions
    }
    #expect(preemptions > 100 && pauses > 1000)
  }
}
