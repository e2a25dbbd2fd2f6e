import Kernels
import Synchronization
import TestSupport
import Testing

@Suite struct ThreadPoolTests {
  @Test(arguments: [1, 2, 3, 8])
  func everyPartRunsOnce(threads: Int) {
    let pool = ThreadPool(threads: threads)
    for parts in [0, 1, 2, 5, 1000] {
      let counts = AlignedBuffer<UInt8>(count: max(parts, 1))
      for _ in 0..<50 { pool.run(parts: parts) { counts[$0] += 1 } }
      #expect((0..<parts).allSatisfy { counts[$0] == 50 })
    }
  }

  @Test func rangesCoverTheCount() {
    let pool = ThreadPool(threads: 2)
    for count in [0, 1, 7, 64, 1001] {
      let seen = AlignedBuffer<UInt8>(count: max(count, 1))
      pool.run(count: count, grain: 8) { range in
        for i in range { seen[i] += 1 }
      }
      #expect((0..<count).allSatisfy { seen[$0] == 1 })
    }
  }

  /// With more threads than cores, the system deschedules workers at every point of their loop. Still no range is computed
  /// twice, and none of a task that is over.
  @Test func tasksInQuickSuccessionStayApart() {
    let pool = ThreadPool(threads: 7)
    let seen = AlignedBuffer<UInt32>(count: 300)
    var random = TinyRandom(seed: 1)
    let running = Atomic<UInt32>(0)
    for task in UInt32(1)...30_000 {
      let count = Int.random(in: 1...300, using: &random)
      running.store(task, ordering: .relaxed)
      pool.run(count: count, grain: Int.random(in: 1...40, using: &random)) { range in
        for i in range { seen[i] = running.load(ordering: .relaxed) == task && seen[i] != task ? task : .max }
      }
      running.store(0, ordering: .relaxed)
      guard (0..<count).allSatisfy({ seen[$0] == task }), (count..<300).allSatisfy({ seen[$0] < task }) else {
        Issue.record("task \(task)")
        return
      }
    }
  }

  /// A task wakes parked workers, and a pool that is released ends its threads.
  @Test func parkedWorkersWake() async throws {
    for _ in 0..<3 {
      let pool = ThreadPool(threads: 4)
      let sum = Atomic<Int>(0)
      pool.run(parts: 10) { sum.wrappingAdd($0, ordering: .relaxed) }
      try await Task.sleep(for: .milliseconds(60))
      pool.run(parts: 10) { sum.wrappingAdd($0, ordering: .relaxed) }
      #expect(sum.load(ordering: .relaxed) == 90)
    }
  }
}
