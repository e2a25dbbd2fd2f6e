import CKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif
import Synchronization

/// Compute threads that share out the parts of one task at a time; the caller's thread is one of them.
///
/// Workers spin for one or two hundred microseconds after a task, as the next one usually follows at once, then park.
/// Which thread does a part never changes the part's result.
///
/// `@unchecked Sendable`: `task` is written only by the caller of `run`, before the generation that publishes it;
/// `run` may be called from one thread at a time.
public final class ThreadPool: @unchecked Sendable {
  public let threadCount: Int

  private var task: Task?
  /// The first index that no thread has taken.
  private let next = Atomic<Int>(0)
  private let unfinishedWorkers = Atomic<Int>(0)
  private let generation = Atomic<Int>(0)
  private let parkedWorkers = Atomic<Int>(0)
  private let stopping = Atomic<Bool>(false)
  private var threads: [pthread_t] = []
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

  /// - Parameter threads: how many compute, the caller's included; at least 1.
  public init(threads count: Int) {
    threadCount = max(count, 1)
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(condition, nil)
    for _ in 1..<threadCount {
      var thread = pthread_t()
      // The pool joins its threads before it goes, so an unretained reference is enough.
      let me = Unmanaged.passUnretained(self).toOpaque()
      let failure = pthread_create(
        &thread, nil,
        { context in
          Unmanaged<ThreadPool>.fromOpaque(context!).takeUnretainedValue().work()
          return nil
        }, me)
      guard failure == 0 else { break }
      threads.append(thread)
    }
  }

  deinit {
    stopping.store(true, ordering: .releasing)
    wake()
    for thread in threads { pthread_join(thread, nil) }
    pthread_mutex_destroy(mutex)
    pthread_cond_destroy(condition)
    mutex.deallocate()
    condition.deallocate()
  }

  /// Calls `body` once for each part 0 ..< parts, on all threads, and returns when every part is done.
  public func run(parts: Int, _ body: (Int) -> Void) {
    run(count: parts, size: 1) { range in for part in range { body(part) } }
  }

  /// Splits 0 ..< count into ranges: each takes an even share of half of what is left, and at least `grain`, so that
  /// few are handed out and threads of uneven speed end together all the same.
  public func run(count: Int, grain: Int, _ body: (Range<Int>) -> Void) {
    run(count, least: max(grain, 1), share: 2 * threadCount, body)
  }

  /// Splits 0 ..< count into ranges of `size`.
  public func run(count: Int, size: Int, _ body: (Range<Int>) -> Void) {
    run(count, least: max(size, 1), share: .max, body)
  }

  private struct Task {
    let body: UnsafePointer<(Range<Int>) -> Void>
    let count: Int
    /// A range's least length.
    let least: Int
    /// It is longer where that is less than such a part of what is left.
    let share: Int
  }

  private func run(_ count: Int, least: Int, share: Int, _ body: (Range<Int>) -> Void) {
    guard count > 0 else { return }
    guard count > least, !threads.isEmpty else {
      for first in stride(from: 0, to: count, by: least) { body(first..<min(first + least, count)) }
      return
    }
    withoutActuallyEscaping(body) { escaping in
      withUnsafePointer(to: escaping) { body in
        task = Task(body: body, count: count, least: least, share: share)
        next.store(0, ordering: .relaxed)
        unfinishedWorkers.store(threads.count, ordering: .relaxed)
        generation.wrappingAdd(1, ordering: .sequentiallyConsistent)
        if parkedWorkers.load(ordering: .sequentiallyConsistent) > 0 { wake() }
        takeRanges()
        var spins = 0
        while unfinishedWorkers.load(ordering: .acquiring) > 0 {
          spins += 1
          graft_pause()
          if spins > Self.pausesToYield { sched_yield() }
        }
        task = nil
      }
    }
  }

  /// Pauses before a thread that waits for the others leaves its core to whoever wants it.
  private static let pausesToYield = 2_000
  /// Pauses before a worker parks: more than what comes between two passes of the model takes, since waking a parked
  /// thread costs the caller tens of microseconds where the machine is virtual.
  private static let pausesToPark = 8_000

  private func takeRanges() {
    guard let task else { return }
    var first = next.load(ordering: .relaxed)
    while first < task.count {
      let left = task.count - first
      let end = first + min(left, max(task.least, left / task.share))
      let (taken, current) = next.weakCompareExchange(expected: first, desired: end, ordering: .relaxed)
      if taken {
        task.body.pointee(first..<end)
        first = next.load(ordering: .relaxed)
      } else {
        first = current
      }
    }
  }

  private func work() {
    var seen = 0
    while true {
      var spins = 0
      while generation.load(ordering: .acquiring) == seen {
        if stopping.load(ordering: .relaxed) { return }
        spins += 1
        graft_pause()
        if spins > Self.pausesToPark {
          park(seen)
          spins = 0
        }
      }
      if stopping.load(ordering: .relaxed) { return }
      seen += 1
      takeRanges()
      unfinishedWorkers.wrappingSubtract(1, ordering: .releasing)
    }
  }

  private func park(_ seen: Int) {
    pthread_mutex_lock(mutex)
    parkedWorkers.wrappingAdd(1, ordering: .sequentiallyConsistent)
    while generation.load(ordering: .sequentiallyConsistent) == seen, !stopping.load(ordering: .relaxed) {
      pthread_cond_wait(condition, mutex)
    }
    parkedWorkers.wrappingSubtract(1, ordering: .sequentiallyConsistent)
    pthread_mutex_unlock(mutex)
  }

  private func wake() {
    pthread_mutex_lock(mutex)
    pthread_cond_broadcast(condition)
    pthread_mutex_unlock(mutex)
  }
}
