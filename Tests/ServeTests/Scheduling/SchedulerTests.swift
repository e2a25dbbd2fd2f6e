import Kernels
import Model
import TestSupport
import Testing

@testable import Serve

/// Random arrivals against an engine that computes nothing and a clock that is set.
@Suite struct SchedulerTests {
  typealias Simulation = SchedulerSimulation
  typealias Request = Simulation.Request

  static func limits(_ rows: Int, running: Int = 64, logits: Int? = nil, target: Duration? = nil) -> SchedulerLimits {
    .init(rowBudget: rows, running: running, logitRows: logits ?? rows, stepTarget: target)
  }

  @Test(arguments: 1...4 as ClosedRange<UInt64>) func everyPatternOfArrivalsEnds(seed: UInt64) {
    var random = TinyRandom(seed: seed * 7919)
    var preemptions = 0
    for _ in 0..<1000 {
      var simulation = Simulation(
        .init(
          rowBudget: Int.random(in: 1...24, using: &random), running: Int.random(in: 1...12, using: &random),
          logitRows: Int.random(in: 1...24, using: &random),
          stepTarget: Bool.random(using: &random) ? .milliseconds(10) : nil),
        blocks: Int.random(in: 7...12, using: &random))
      var left = Int.random(in: 1...25, using: &random)
      let pace = [1, 3, 30].randomElement(using: &random) ?? 1
      var passes = 0
      while left > 0 || !simulation.live.isEmpty {
        while left > 0, Int.random(in: 0..<pace, using: &random) == 0 || simulation.live.isEmpty {
          left -= 1
          let prompt = Int.random(in: 1...(Bool.random(using: &random) ? 40 : 120), using: &random)
          let tokens = Int.random(in: 0...[25, 90][left % 2], using: &random)
          let late = Int.random(in: 0..<8, using: &random) == 0
          simulation.submit(
            Request(
              prompt, tokens, scores: Int.random(in: 0..<3, using: &random) == 0,
              client: ["a", "b"].randomElement(using: &random) ?? "", adapter: .random(in: 0..<3, using: &random),
              deadline: late ? simulation.now + .milliseconds(Int.random(in: 0...60, using: &random)) : nil,
              cached: Int.random(in: 0...20, using: &random),
              family: Bool.random(using: &random) ? .random(in: 1...2, using: &random) : nil,
              alike: Int.random(in: 0...prompt, using: &random)),
            group: Int.random(in: 0..<3, using: &random) == 0 ? .random(in: 1...3, using: &random) : nil)
        }
        if Int.random(in: 0..<12, using: &random) == 0,
          let id = simulation.live.keys.sorted(by: { $0.value < $1.value }).randomElement(using: &random)
        {
          simulation.remove(id)
        }
        let rows = simulation.step().values.reduce(0, +)
        simulation.now += .milliseconds(1)
        simulation.scheduler.completed(rows: rows, in: .microseconds(Int.random(in: 1...20000, using: &random)))
        passes += 1
        // The oldest goes on in one of a few passes, and there are at most 25 × 210 rows of oldest ones.
        if passes > 30000 {
          Issue.record("no end in sight")
          break
        }
      }
      preemptions += simulation.preemptions
      #expect(simulation.freeBlocks == simulation.capacity)
      #expect(simulation.scheduler.isEmpty && simulation.scheduler.queue.accountCount == 0)
    }
    #expect(preemptions > 20)
  }

  /// However many younger requests come and decode, an old prompt goes on.
  @Test(arguments: [true, false]) func noPromptStarves(scores: Bool) {
    for (rowBudget, logitRows) in [(8, 8), (8, 4), (2, 2), (16, 2), (4, 16), (1, 1)] {
      var simulation = Simulation(
        Self.limits(rowBudget, running: rowBudget == 1 ? 8 : 64, logits: logitRows), blocks: 4096)
      for _ in 0..<20 { simulation.submit(Request(1, 30)) }
      for _ in 0..<20 { simulation.step() }
      let old = simulation.submit(Request(100, 1, scores: scores))
      var passes = 0
      while simulation.live[old] != nil, passes < 4000 {
        simulation.submit(Request(1, 30))
        simulation.step()
        passes += 1
      }
      #expect(simulation.live[old] == nil, "\(rowBudget) rows, \(logitRows) of logits")
    }
  }

  /// More requests decode than a pass has rows: all get on alike.
  @Test func decodersTakeTurns() {
    var simulation = Simulation(Self.limits(7), blocks: 4096)
    let ids = (0..<30).map { _ in simulation.submit(Request(1, 1000)) }
    for _ in 0..<60 { simulation.step() }
    let before = ids.map { simulation.live[$0]?.computed ?? 0 }
    for _ in 0..<300 { simulation.step() }
    let gains = zip(ids, before).map { (simulation.live[$0]?.computed ?? 0) - $1 }
    #expect(gains.reduce(0, +) == 300 * 7)
    #expect((gains.max() ?? 0) - (gains.min() ?? 0) <= 1)
  }

  @Test func aLongPromptStallsNeitherDecodersNorShortPrompts() {
    var simulation = Simulation(Self.limits(32), blocks: 4096)
    let decoders = (0..<8).map { _ in simulation.submit(Request(4, 500)) }
    for _ in 0..<4 { simulation.step() }
    let long = simulation.submit(Request(2000, 1))
    simulation.step()
    let short = simulation.submit(Request(12, 1))
    let rows = simulation.step()
    #expect(decoders.allSatisfy { rows[$0] == 1 })
    #expect((rows[long] ?? 0) >= 6 && rows[short] == 12)
    #expect(rows.values.reduce(0, +) == 32)
  }

  /// With a target for a pass's time, prompts beside decoders are cut to what is affordable.
  @Test func promptsAreCutToTheTarget() {
    var simulation = Simulation(Self.limits(128, target: .microseconds(50500)), blocks: 4096)
    for _ in 0..<20 { simulation.scheduler.completed(rows: 100, in: .milliseconds(100)) }
    let alone = simulation.submit(Request(1000, 1))
    #expect(simulation.step()[alone] == 128, "nobody waits for a token")
    let decoder = simulation.submit(Request(1, 100))
    simulation.step()
    let rows = simulation.step()
    #expect(rows[decoder] == 1 && rows[alone] == 49)
    for _ in 0..<40 { simulation.scheduler.completed(rows: 100, in: .seconds(100)) }
    #expect(simulation.step()[alone] == 16, "a prompt always goes on")
  }

  /// A client with hundreds of requests, and one with a few: they are served alike while both have work.
  @Test func clientsGetEqualShares() {
    var simulation = Simulation(Self.limits(16, running: 8), blocks: 4096)
    for adapter in 0..<300 { simulation.submit(Request(20, 5, client: "many", adapter: UInt64(adapter % 5))) }
    for _ in 0..<30 { simulation.step() }
    let few = (0..<10).map { _ in simulation.submit(Request(20, 5, client: "few")) }
    let before = simulation.finished.count
    while few.contains(where: { simulation.live[$0] != nil }) { simulation.step() }
    let others = simulation.finished.count - before - few.count
    #expect(others <= few.count + 8, "\(others) of the other client's were served meanwhile")
  }

  /// One client, one adapter asked for much more than the others: the others do not wait behind it.
  @Test func adaptersGetEqualShares() {
    var simulation = Simulation(Self.limits(16, running: 4), blocks: 4096)
    for _ in 0..<200 { simulation.submit(Request(30, 4, adapter: 1)) }
    for _ in 0..<20 { simulation.step() }
    let rare = (0..<6).map { simulation.submit(Request(30, 4, adapter: UInt64($0 % 2 + 2))) }
    let before = simulation.finished.count
    while rare.contains(where: { simulation.live[$0] != nil }) { simulation.step() }
    #expect(simulation.finished.count - before - rare.count <= 3 + 4 + 1)
  }

  /// In what clients have had, they never drift apart by more than what runs at once, while both have enough to do.
  @Test(arguments: 1...5 as ClosedRange<UInt64>) func serviceStaysEven(seed: UInt64) {
    var random = TinyRandom(seed: seed * 7919)
    var simulation = Simulation(Self.limits(24, running: 6), blocks: 4096)
    var served: [String: Int] = [:]
    var (waiting, submitted) = (["a": 0, "b": 0, "c": 0], [GenerationID: String]())
    for _ in 0..<2000 {
      for client in ["a", "b", "c"] {
        waiting[client] = simulation.live.values.count { $0.request.client == client }
        while (waiting[client] ?? 0) < 8 {
          let prompt = Int.random(in: 1...(client == "a" ? 100 : 10), using: &random)
          let id = simulation.submit(Request(prompt, Int.random(in: 1...20, using: &random), client: client))
          submitted[id] = client
          waiting[client, default: 0] += 1
        }
      }
      for (id, rows) in simulation.step() { served[submitted[id] ?? "", default: 0] += rows }
    }
    let amounts = served.values.sorted()
    // At most what six requests need, of 120 rows each.
    #expect(amounts.count == 3 && (amounts.last ?? 0) - (amounts.first ?? 0) <= 6 * 120)
  }

  /// Requests of one client and adapter begin in the order of their arrival, though they do not all fit.
  @Test func aStreamIsFirstComeFirstServed() {
    var simulation = Simulation(Self.limits(8, running: 8), blocks: 4)
    let first = simulation.submit(Request(64, 10))
    let big = simulation.submit(Request(128, 1))
    let small = simulation.submit(Request(1, 1))
    simulation.step()
    #expect(simulation.running == [first] && simulation.scheduler.waitingCount == 2)
    simulation.remove(first)
    simulation.step()
    #expect(simulation.admitted == [first, big])
    while simulation.live[big] != nil { simulation.step() }
    simulation.step()
    #expect(simulation.live[small] == nil)
  }

  /// Those that outgrow the cache make way for those that came before, and end none the less.
  @Test func theYoungestMakesWay() {
    var simulation = Simulation(Self.limits(8), blocks: 6)
    let ids = (0..<4).map { _ in simulation.submit(Request(8, 120)) }
    while !simulation.live.isEmpty { simulation.step() }
    #expect(simulation.preemptions > 0 && simulation.finished == ids)
  }

  @Test func aGroupWaitsForItsFirst() {
    var simulation = Simulation(Self.limits(16), blocks: 4096)
    let ids = (0..<3).map { _ in simulation.submit(Request(40, 4), group: 7) }
    #expect(simulation.step()[ids[0]] == 16 && simulation.admitted == [ids[0]])
    // The next takes the first one's place.
    simulation.remove(ids[0])
    #expect(simulation.step()[ids[1]] != nil && simulation.scheduler.waitingCount == 1)
    while !simulation.admitted.contains(ids[2]) { simulation.step() }
    #expect((simulation.live[ids[1]]?.computed ?? 0) >= 40)
    while !simulation.live.isEmpty { simulation.step() }
  }

  /// Prompts that begin alike and arrive at once: the beginning is computed once, in the turns of all.
  @Test func aCommonBeginningIsComputedOnce() {
    for cancelsLeader in [false, true] {
      var simulation = Simulation(Self.limits(64), blocks: 4096)
      let ids = (0..<8).map { index in
        simulation.submit(Request(200, 1, client: ["a", "b"][index % 2], family: 1, alike: 190))
      }
      var rows = simulation.step()
      #expect(rows == [ids[0]: 64])
      if cancelsLeader {
        simulation.remove(ids[0])
        // What it computed is not lost.
        let next = simulation.step()
        #expect(next.count == 1 && next.values.first == 64 && next[ids[0]] == nil)
        rows.merge(next, uniquingKeysWith: +)
      }
      var total = rows.values.reduce(0, +)
      while !simulation.live.isEmpty { total += simulation.step().values.reduce(0, +) }
      let whole = 190 / keyValueBlockLength * keyValueBlockLength
      #expect(total == whole + (cancelsLeader ? 7 : 8) * (200 - whole))
    }
  }

  /// A client that has had little waits for no leader of another's that gets only the least: its turns bring it on.
  @Test func aLeaderTakesTheTurnsOfThoseThatWaitForIt() {
    var simulation = Simulation(Self.limits(32), blocks: 4096)
    let leader = simulation.submit(Request(2000, 1, client: "many", family: 1, alike: 1500))
    for _ in 0..<3 { simulation.submit(Request(1000, 1, client: "many", adapter: 1)) }
    for _ in 0..<10 { simulation.step() }
    let follower = simulation.submit(Request(1500, 1, client: "few", family: 1, alike: 1500))
    let rows = simulation.step()
    #expect(rows[leader] == 32 && rows[follower] == nil)
    while (simulation.live[leader]?.computed ?? 2000) < 1500 { simulation.step() }
    #expect((simulation.live[follower]?.computed ?? 1500) >= 1472)
  }

  @Test func deadlinesEndWhatWaitsAndWhatRuns() {
    var simulation = Simulation(Self.limits(4, running: 1), blocks: 64)
    let running = simulation.submit(Request(4, 1000, deadline: .seconds(5)))
    let waiting = simulation.submit(Request(4, 10, deadline: .seconds(3)))
    let patient = simulation.submit(Request(4, 10))
    simulation.step()
    simulation.now = .seconds(3)
    simulation.step()
    #expect(simulation.finished == [waiting])
    simulation.now = .milliseconds(4999)
    simulation.step()
    #expect(simulation.live[running] != nil)
    simulation.now = .seconds(5)
    simulation.step()
    #expect(simulation.finished == [waiting, running] && simulation.running == [patient])
  }

  @Test func removingReturnsTheBlocksOnce() {
    var simulation = Simulation(Self.limits(4), blocks: 3)
    for _ in 0..<50 {
      let a = simulation.submit(Request(40, 4))
      let b = simulation.submit(Request(40, 4))
      simulation.step()
      #expect(simulation.scheduler.runningCount == 1)
      simulation.scheduler.remove(a, now: .zero)
      simulation.remove(a)
      simulation.remove(b)
    }
    #expect(simulation.scheduler.next(now: .zero, freeBlocks: 3) == .idle)
  }
}
