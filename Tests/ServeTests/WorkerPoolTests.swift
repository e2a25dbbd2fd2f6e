import Dispatch
import Foundation
import Synchronization
import Testing

@testable import Serve

@Suite struct WorkerPoolTests {
  @Test func allWorkIsDoneByAFixedNumberOfThreads() {
    let pool = WorkerPool(label: "test", threads: 3)
    let threads = Mutex<Set<UInt>>([])
    let done = DispatchGroup()
    for _ in 0..<5000 {
      done.enter()
      pool.async {
        threads.withLock { _ = $0.insert(currentThread()) }
        done.leave()
      }
    }
    #expect(done.wait(timeout: .now() + Flag.patience) == .success)
    #expect((1...3).contains(threads.withLock { $0.count }))
  }

  @Test func workIsLetGoOfWhenItIsDone() {
    final class Token: Sendable {}
    let pool = WorkerPool(label: "test", threads: 1)
    var token: Token? = Token()
    weak let watched = token
    pool.async { [token] in _ = token }
    token = nil
    let next = Flag()
    pool.async { next.set() }
    #expect(next.wait() && watched == nil)
  }

  @Test func whatIsTooMuchIsRefused() {
    let pool = WorkerPool(label: "test", threads: 1, capacity: 4)
    let gate = DispatchSemaphore(value: 0)
    let begun = Flag()
    #expect(
      pool.async {
        begun.set()
        gate.wait()
      })
    #expect(begun.wait())
    let done = Mutex(0)
    for index in 0..<10 {
      let isTaken = pool.async { done.withLock { $0 += 1 } }
      #expect(isTaken == (index < 4))
    }
    gate.signal()
    let last = Flag()
    while !pool.async({ last.set() }) { usleep(1000) }
    #expect(last.wait() && done.withLock { $0 } == 4)
  }

  /// What was handed in is done though nobody holds the pool any more, and then the threads end.
  @Test func poolsEnd() {
    let done = DispatchGroup()
    do {
      let pool = WorkerPool(label: "ending", threads: 4)
      for _ in 0..<100 {
        done.enter()
        pool.async { done.leave() }
      }
    }
    #expect(done.wait(timeout: .now() + Flag.patience) == .success)
    let deadline = ContinuousClock.now + .seconds(30)
    func names() -> [String] {
      let tasks = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/task")) ?? []
      return tasks.compactMap { try? String(contentsOfFile: "/proc/self/task/\($0)/comm", encoding: .utf8) }
    }
    while names().contains("ending\n"), ContinuousClock.now < deadline { usleep(1000) }
    #expect(!names().contains("ending\n"))
  }

  @Test func aLaneKeepsItsOrderWhileOthersGoOn() {
    let pool = WorkerPool(label: "test", threads: 4)
    let seen = Mutex<[[Int]]>(Array(repeating: [], count: 20))
    let done = DispatchGroup()
    let lanes = (0..<20).map { _ in SerialLane(pool) }
    for index in 0..<200 {
      for (lane, queue) in lanes.enumerated() {
        done.enter()
        queue.async {
          seen.withLock { $0[lane].append(index) }
          done.leave()
        }
      }
    }
    #expect(done.wait(timeout: .now() + Flag.patience) == .success)
    #expect(seen.withLock { $0 } == Array(repeating: Array(0..<200), count: 20))
  }
}
