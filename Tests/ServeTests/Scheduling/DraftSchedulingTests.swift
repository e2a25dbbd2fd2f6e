import Kernels
import Testing

@testable import Serve

@Suite struct DraftSchedulingTests {
  private typealias Simulation = SchedulerSimulation
  private typealias Request = SchedulerSimulation.Request

  private static func limits(_ rows: Int = 128) -> SchedulerLimits {
    SchedulerLimits(rowBudget: rows, running: 64, logitRows: rows, stepTarget: nil)
  }

  /// A scheduler whose passes take `1 + growth · (rows - 1)` milliseconds, with sequences that decode.
  private func simulation(
    _ count: Int, growth: Double, rows: Int = 128, blocks: Int = 4096, promptLength: Int = 1, share: Double = 0
  ) -> (Simulation, [SimulatedSequence]) {
    var limits = Self.limits(rows)
    limits.backgroundShare = share
    var simulation = Simulation(limits, blocks: blocks)
    for _ in 0..<50 {
      for rows in 1...64 {
        let time = Duration.microseconds(Int(1000 * (1 + growth * Double(rows - 1))))
        simulation.scheduler.completed(rows: rows, isDecoding: true, in: time)
      }
    }
    let ids = (0..<count).map { _ in simulation.submit(Request(promptLength, 500)) }
    simulation.step()
    return (simulation, ids.compactMap { simulation.live[$0] })
  }

  private func rows(_ simulation: inout Simulation) -> [Int] {
    guard case .step(let chunks) = simulation.scheduler.next(now: .zero, freeBlocks: simulation.freeBlocks) else {
      return []
    }
    return chunks.map(\.positions.count)
  }

  @Test func aDraftHasAsManyRowsAsPay() {
    // One more row takes a quarter of a pass. 0.5 + 0.25 + ... pays for one row: 1.5/1.25, then 1.75/1.5.
    var (simulation, sequences) = simulation(1, growth: 0.25)
    (sequences[0].draftLength, sequences[0].draftRate) = (10, 0.5)
    #expect(rows(&simulation) == [2])
    sequences[0].draftRate = 0.2
    #expect(rows(&simulation) == [1])
    sequences[0].draftRate = 1
    #expect(rows(&simulation) == [11])
    // Of almost free rows, many are taken even at a middling rate.
    (simulation, sequences) = self.simulation(1, growth: 0.001)
    (sequences[0].draftLength, sequences[0].draftRate) = (10, 0.9)
    #expect((rows(&simulation).first ?? 0) >= 7)
  }

  /// Beside others, background sequences have the rows that they are owed and none for drafts; they stop no draft either.
  @Test func theBackgroundHasNoDraftsBesideOthers() {
    var (simulation, sequences) = simulation(1, growth: 0.25, share: 0.5)
    let background = simulation.submit(Request(30, 5, client: "batches"))
    simulation.live[background]?.draftLength = 10
    simulation.live[background]?.draftRate = 1
    (sequences[0].draftLength, sequences[0].draftRate) = (10, 1)
    // One of the actions admits the background.
    let passes = (0..<6).map { _ in rows(&simulation) }.filter { !$0.isEmpty }
    #expect(passes.contains([11, 1]) && passes.contains([11]) && passes.allSatisfy { $0 == [11] || $0 == [11, 1] })
  }

  @Test func draftsOfManySequencesPayLess() {
    // With sixteen sequences a pass is 4.75 times as long, and a row makes up for its quarter only at a rate of 0.84.
    var (simulation, sequences) = simulation(16, growth: 0.25)
    for sequence in sequences { (sequence.draftLength, sequence.draftRate) = (4, 0.7) }
    #expect(rows(&simulation) == [Int](repeating: 1, count: 16))
    for sequence in sequences.prefix(2) { sequence.draftRate = 0.95 }
    let given = rows(&simulation)
    #expect(given[0] > 2 && given[1] > 2 && given[2...].allSatisfy { $0 == 1 })
  }

  @Test func limitsAndPromptsComeFirst() {
    var (simulation, sequences) = simulation(4, growth: 0.01, rows: 7)
    for sequence in sequences { (sequence.draftLength, sequence.draftRate) = (31, 1) }
    #expect(rows(&simulation).reduce(0, +) == 7)
    simulation.submit(Request(100, 1))
    simulation.step()
    let given = rows(&simulation)
    #expect(given.count == 5 && given.prefix(4).allSatisfy { $0 == 1 }, "no draft beside a prompt")
  }

  @Test func draftsTakeNoBlockThatAnotherNeeds() {
    // Each sequence has one block with room for the next token and one more, and the last free block is kept.
    var (simulation, sequences) = simulation(2, growth: 0.01, blocks: 3, promptLength: 30)
    for sequence in sequences { (sequence.draftLength, sequence.draftRate) = (31, 1) }
    #expect(sequences.allSatisfy { $0.computed == 30 })
    #expect(rows(&simulation) == [2, 2])
  }

  @Test func aCurveWithAStepIsLearned() {
    var cost = PassCost()
    let curve = [1, 1.1, 1.7, 1.8, 2.2, 2.6, 2.7, 2.9]
    var random = SystemRandomNumberGenerator()
    for pass in 0..<2000 {
      // The machine's speed halves and doubles.
      let speed = pass / 100 % 2 == 0 ? 1.0 : 2.0
      let rows = Int.random(in: 1...8, using: &random)
      cost.record(rows: rows, seconds: speed * curve[rows - 1] * Double.random(in: 0.97...1.03, using: &random))
    }
    for rows in 1...8 { #expect(abs(cost.ratio(rows: rows) / curve[rows - 1] - 1) < 0.25, "\(rows) rows") }
  }

  @Test func passesThatWereNotSeenAreGuessed() {
    var cost = PassCost()
    #expect(cost.ratio(rows: 1) == 1 && cost.ratio(rows: 3) == 1.5 && cost.ratio(rows: 101) == 26)
    for _ in 0..<300 {
      cost.record(rows: 1, seconds: 0.1)
      cost.record(rows: 2, seconds: 0.1)
    }
    // A free second row says little of the third.
    #expect(cost.ratio(rows: 2) < 1.05 && abs(cost.ratio(rows: 4) - 1.25) < 0.05)
    for _ in 0..<300 {
      cost.record(rows: 1, seconds: 0.1)
      cost.record(rows: 2, seconds: 0.1)
      cost.record(rows: 8, seconds: 0.4)
    }
    #expect(abs(cost.ratio(rows: 5) - 2.45) < 0.15, "between its neighbours")
    #expect(abs(cost.ratio(rows: 16) - 7) < 0.4 && abs(cost.ratio(rows: 72) - 29) < 2, "on the line beyond them")
  }

  @Test func aPassThatWasHeldUpIsForgotten() {
    var cost = PassCost()
    cost.record(rows: 1, seconds: 0.01)
    cost.record(rows: 2, seconds: 10)
    #expect(cost.ratio(rows: 2) <= 5)
    for _ in 0..<50 {
      for rows in 3...5 { cost.record(rows: rows, seconds: 0.01 * (1 + 0.1 * Double(rows))) }
      for _ in 0..<10 { cost.record(rows: 1, seconds: 0.01) }
    }
    #expect(cost.ratio(rows: 2) < 2.5, "tried again")
    // Nothing that cannot be a measurement changes anything.
    let before = cost.ratio(rows: 3)
    cost.record(rows: 3, seconds: 0)
    cost.record(rows: 1000, seconds: 1)
    #expect(cost.ratio(rows: 3) == before && cost.ratio(rows: 1000).isFinite)
  }

  @Test func rowsAreWorthTheirTime() {
    var cost = PassCost()
    cost.record(rows: 1, seconds: 0.1)
    // A second row is free, the third doubles the time.
    for _ in 0..<200 {
      cost.record(rows: 1, seconds: 0.1)
      cost.record(rows: 2, seconds: 0.1)
      cost.record(rows: 3, seconds: 0.2)
    }
    #expect(cost.usefulRows([0.9, 0.81], beside: 1, tokens: 1) == 1)
    #expect(cost.usefulRows([0.01], beside: 2, tokens: 2) == 0)
    #expect(cost.usefulRows([], beside: 1, tokens: 1) == 0)
  }

  /// Along an answer that repeats itself: passes that cost no more with more rows gain much, passes in proportion to their rows
  /// nothing, and where only a second row is free, drafts have one token.
  @Test func replaysGainWhatTheTimesAllow() {
    let period = (0..<40).map { Int32($0 * 37 % 41) }
    func replay(_ seconds: [Double]) -> DraftReplay {
      var replay = DraftReplay(seconds: seconds)
      for _ in 0..<4 { replay.decode(Array(repeating: period, count: 5).flatMap { $0 }, after: period) }
      return replay
    }
    let free = replay([1, 1, 1, 1, 1, 1])
    #expect(free.time.plain == 4 * 199 && free.time.plain / free.time.drafting > 8)
    #expect(free.tokens.accepted > free.tokens.drafted / 2)
    let linear = replay([1, 2, 4, 8, 16, 32])
    #expect(linear.time.plain / linear.time.drafting > 0.9)
    let pairs = replay([1, 1, 2.1, 4.2, 8.4, 16.8])
    #expect(pairs.time.plain / pairs.time.drafting > 1.7 && pairs.time.plain / pairs.time.drafting <= 2)
    // Nothing that is free for two rows is taken to be free for more.
    #expect(pairs.tokens.drafted < 4 * 199)
    // Without anything that repeats, nothing is drafted.
    var fresh = DraftReplay(seconds: [1, 1])
    fresh.decode((0..<100).map { $0 }, after: [])
    #expect(fresh.tokens.drafted == 0 && fresh.time.plain == fresh.time.drafting)
  }
}
