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
