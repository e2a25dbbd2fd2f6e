import Kernels
import Synchronization
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
      let least = Atomic<Int>(.max)
      pool.run(count: count, grain: 8) { range in
        for i in range { seen[i] += 1 }
        _ = least.min(range.count, ordering: .relaxed)
      }
      #expect((0..<count).allSatisfy { seen[$0] == 1 })
    }
  }

  /// Workers that have parked are woken; a pool that goes ends its threads.
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
