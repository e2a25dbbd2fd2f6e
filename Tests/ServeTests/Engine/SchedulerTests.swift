import TestSupport
import Testing

@testable import Serve

/// Random arrivals against an engine that computes nothing.
@Suite struct SchedulerTests {
  private struct Request {
    var promptLength: Int
    var maxTokens: Int
    var scores: Bool
    var computed = 0
    var blocks: Int { (promptLength + max(maxTokens - 1, 0) + 31) / 32 }
    var end: Int { promptLength + max(maxTokens - 1, 0) }
  }

  private struct Simulation {
    let limits: Scheduler.Limits
    let capacity: Int
    var scheduler: Scheduler
    var live: [GenerationID: Request] = [:]
    /// In the order of arrival.
    var arrivals: [GenerationID] = []
    var admitted: Set<GenerationID> = []
    private var next: UInt64 = 0

    init(_ limits: Scheduler.Limits, blocks: Int) {
      self.limits = limits
      capacity = blocks
      scheduler = Scheduler(limits: limits, blocks: blocks)
    }

    @discardableResult mutating func submit(_ request: Request) -> GenerationID {
      next += 1
      let id = GenerationID(value: next)
      live[id] = request
      arrivals.append(id)
      scheduler.enqueue(
        id, promptLength: request.promptLength, blocks: request.blocks, scoresPrompt: request.scores)
      return id
    }

    mutating func remove(_ id: GenerationID) {
      live[id] = nil
      admitted.remove(id)
      arrivals.removeAll { $0 == id }
      scheduler.remove(id)
    }

    /// One pass, checked; returns how many rows it had.
    mutating func step() -> Int {
      guard case .step(let slices) = scheduler.next() else {
        #expect(live.isEmpty, "idle with \(live.count) requests")
        return 0
      }
      #expect(!slices.isEmpty && Set(slices.map(\.id)).count == slices.count)
      var (rows, logitRows) = (0, 0)
      for slice in slices {
        guard let request = live[slice.id] else {
          Issue.record("a slice of a request that is gone")
          continue
        }
        #expect(slice.positions.lowerBound == request.computed && !slice.positions.isEmpty)
        if request.computed < request.promptLength {
          #expect(slice.positions.upperBound <= request.promptLength)
        } else {
          #expect(slice.positions.count == 1)
        }
        rows += slice.positions.count
        if request.scores, request.computed < request.promptLength {
          logitRows += slice.positions.count
        } else if slice.positions.upperBound >= request.promptLength {
          logitRows += 1
        }
        admitted.insert(slice.id)
      }
      #expect(rows <= limits.rowBudget && logitRows <= limits.logitRows)
      #expect(scheduler.runningCount <= limits.running)
      #expect(scheduler.runningCount + scheduler.waitingCount == live.count)
      // Whoever runs came before whoever waits, and all of them fit.
      let running = arrivals.prefix(scheduler.runningCount)
      #expect(admitted.isSubset(of: running))
      #expect(running.reduce(0) { $0 + (live[$1]?.blocks ?? 0) } <= capacity)
      for slice in slices {
        live[slice.id]?.computed = slice.positions.upperBound
        if let request = live[slice.id], request.computed >= request.end { remove(slice.id) }
      }
      return rows
    }
  }

  @Test func everyPatternOfArrivalsEnds() {
    var random = TinyRandom(seed: 1)
    for _ in 0..<3000 {
      let limits = Scheduler.Limits(
        rowBudget: Int.random(in: 1...24, using: &random), running: Int.random(in: 1...12, using: &random),
        logitRows: Int.random(in: 1...24, using: &random))
      var simulation = Simulation(limits, blocks: Int.random(in: 2...12, using: &random))
      var left = Int.random(in: 1...25, using: &random)
      var passes = 0
      while left > 0 || !simulation.live.isEmpty {
        while left > 0, Int.random(in: 0..<3, using: &random) == 0 || simulation.live.isEmpty {
          left -= 1
          simulation.submit(
            Request(
              promptLength: Int.random(in: 1...40, using: &random), maxTokens: Int.random(in: 0...25, using: &random),
              scores: Int.random(in: 0..<3, using: &random) == 0))
        }
        if Int.random(in: 0..<12, using: &random) == 0, let id = simulation.arrivals.randomElement(using: &random) {
          simulation.remove(id)
        }
        _ = simulation.step()
        passes += 1
        // Every pass has a row at least, and there are at most 25 × 65 of them.
        if passes > 3000 {
          Issue.record("no end in sight")
          break
        }
      }
    }
  }

  /// However many younger requests come and decode, an old prompt goes on.
  @Test(arguments: [true, false]) func noPromptStarves(scores: Bool) {
    for (rowBudget, logitRows) in [(8, 8), (8, 4), (2, 2), (16, 2), (4, 16)] {
      var simulation = Simulation(.init(rowBudget: rowBudget, running: 64, logitRows: logitRows), blocks: 4096)
      for _ in 0..<20 { simulation.submit(Request(promptLength: 1, maxTokens: 30, scores: false)) }
      for _ in 0..<20 { _ = simulation.step() }
      let old = simulation.submit(Request(promptLength: 100, maxTokens: 1, scores: scores))
      var passes = 0
      while simulation.live[old] != nil, passes < 2000 {
        simulation.submit(Request(promptLength: 1, maxTokens: 30, scores: false))
        _ = simulation.step()
        passes += 1
      }
      #expect(simulation.live[old] == nil, "\(rowBudget) rows, \(logitRows) of logits")
    }
  }

  /// A request that does not fit yet is not overtaken by a smaller one.
  @Test func admissionIsFirstComeFirstServed() {
    var simulation = Simulation(.init(rowBudget: 8, running: 8, logitRows: 8), blocks: 4)
    let first = simulation.submit(Request(promptLength: 64, maxTokens: 10, scores: false))
    let big = simulation.submit(Request(promptLength: 128, maxTokens: 1, scores: false))
    let small = simulation.submit(Request(promptLength: 1, maxTokens: 1, scores: false))
    _ = simulation.step()
    #expect(simulation.scheduler.runningCount == 1 && simulation.scheduler.waitingCount == 2)
    simulation.remove(first)
    _ = simulation.step()
    #expect(simulation.admitted == [big])
    while simulation.live[big] != nil { _ = simulation.step() }
    _ = simulation.step()
    #expect(simulation.live[small] == nil)
  }

  @Test func removingReturnsTheBlocksOnce() {
    var simulation = Simulation(.init(rowBudget: 4, running: 4, logitRows: 4), blocks: 2)
    for _ in 0..<50 {
      let a = simulation.submit(Request(promptLength: 40, maxTokens: 4, scores: false))
      let b = simulation.submit(Request(promptLength: 40, maxTokens: 4, scores: false))
      _ = simulation.step()
      #expect(simulation.scheduler.runningCount == 1)
      simulation.scheduler.remove(a)
      simulation.remove(a)
      simulation.remove(b)
    }
    #expect(simulation.scheduler.next() == .idle)
  }
}
