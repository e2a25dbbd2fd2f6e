import CKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif
import Synchronization

/// A fixed set of threads that compute one task at a time; the thread that calls `run` is one of them.
///
/// A task is a count of indices and a body. Threads take ranges of indices until none is left, and the task ends when
/// every index has been computed. So a worker that the system has descheduled between two tasks delays no task. After a
/// task, workers spin for one or two hundred microseconds, because the next task usually follows at once; then they
/// park on a condition variable. Which thread computes a range never changes the range's result.
///
/// `@unchecked Sendable`: `body` is the only unprotected variable. The caller of `run` writes it only while `cursor` says
/// that no range is free, and workers read it only between taking a range and adding it to `done`. `threads` is written
/// in `init` alone. At most one thread may be inside `run`.
public final class ThreadPool: @unchecked Sendable {
  /// How many threads compute, the caller of `run` included.
  public let threadCount: Int

  private var body: UnsafePointer<(Range<Int>) -> Void>?
  /// The task's number and its first free index, in one word. A worker may be descheduled between reading the word and
  /// exchanging it; if another task has begun meanwhile, the exchange fails, because the number differs.
  private let cursor = Atomic<UInt64>(Cursor.closed(0).word)
  /// Indices of the task.
  private let count = Atomic<Int>(0)
  /// Minimum length of a range; only the last one may be shorter.
  private let minimumLength = Atomic<Int>(1)
  /// A range takes the remaining indices divided by this, if that is more than the minimum.
  private let divisor = Atomic<Int>(.max)
  /// Indices that have been computed.
  private let done = Atomic<Int>(0)
  private let parkedWorkers = Atomic<Int>(0)
  private let stopping = Atomic<Bool>(false)
  private var threads: [pthread_t] = []
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

  /// Starts the workers. If the system refuses a thread, the pool works with those that it has.
  /// - Parameter count: how many threads compute, the caller of `run` included; less than 1 counts as 1
  public init(threads count: Int) {
    threadCount = max(count, 1)
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(condition, nil)
    for _ in 1..<threadCount {
      var thread = pthread_t()
      // An unretained pointer is enough, because deinit joins the threads before the pool's memory is freed.
      let me = Unmanaged.passUnretained(self).toOpaque()
      let failure = pthread_create(
        &thread, nil,
        { context in
          guard let context else { return nil }
          Unmanaged<ThreadPool>.fromOpaque(context).takeUnretainedValue().work()
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

  /// Calls `body` once for each part in 0 ..< parts, on all threads, and returns when every part is done.
  public func run(parts: Int, _ body: (Int) -> Void) {
    run(count: parts, size: 1) { range in for part in range { body(part) } }
  }

  /// Splits 0 ..< count into ranges of decreasing length and returns when all are done.
  ///
  /// A range has half of the remaining indices divided by the number of threads. So few ranges are handed out, and threads
  /// of uneven speed still end together.
  /// - Parameter grain: minimum length of a range; only the last one may be shorter
  public func run(count: Int, grain: Int, _ body: (Range<Int>) -> Void) {
    run(count, minimumLength: max(grain, 1), divisor: 2 * threadCount, body)
  }

  /// Splits 0 ..< count into ranges of `size` indices, the last one perhaps shorter, and returns when all are done.
  public func run(count: Int, size: Int, _ body: (Range<Int>) -> Void) {
    run(count, minimumLength: max(size, 1), divisor: .max, body)
  }

  /// The two halves of `cursor`.
  private struct Cursor {
    let task: UInt32
    let first: UInt32

    /// No range is free: the task is over, or its fields are not all written yet.
    static func closed(_ task: UInt32) -> Cursor { Cursor(task: task, first: .max) }

    init(task: UInt32, first: UInt32) {
      self.task = task
      self.first = first
    }

    init(word: UInt64) {
      task = UInt32(truncatingIfNeeded: word >> 32)
      first = UInt32(truncatingIfNeeded: word)
    }

    var word: UInt64 { UInt64(task) << 32 | UInt64(first) }
  }

  private func run(_ count: Int, minimumLength: Int, divisor: Int, _ body: (Range<Int>) -> Void) {
    guard count > 0 else { return }
    guard count > minimumLength, !threads.isEmpty else {
      for first in stride(from: 0, to: count, by: minimumLength) { body(first..<min(first + minimumLength, count)) }
      return
    }
    precondition(count < UInt32.max)
    withoutActuallyEscaping(body) { escaping in
      withUnsafePointer(to: escaping) { body in
        let task = Cursor(word: cursor.load(ordering: .relaxed)).task &+ 1
        self.body = body
        // Releasing: a thread that sees one of these values also sees that the task before is closed.
        self.count.store(count, ordering: .releasing)
        self.minimumLength.store(minimumLength, ordering: .releasing)
        self.divisor.store(divisor, ordering: .releasing)
        done.store(0, ordering: .relaxed)
        cursor.store(Cursor(task: task, first: 0).word, ordering: .sequentiallyConsistent)
        if parkedWorkers.load(ordering: .sequentiallyConsistent) > 0 { wake() }
        takeRanges()
        var spins = 0
        while done.load(ordering: .acquiring) < count {
          spins += 1
          graft_pause()
          if spins > Self.pausesToYield { sched_yield() }
        }
        cursor.store(Cursor.closed(task).word, ordering: .relaxed)
        self.body = nil
      }
    }
  }

  /// Pauses after which a caller that waits for the workers offers its core to other threads.
  private static let pausesToYield = 2_000
  /// Pauses after which a worker parks. They take longer than the gap between two passes of the model, because waking a
  /// parked thread costs the caller tens of microseconds on a virtual machine.
  private static let pausesToPark = 8_000

  /// Computes ranges of the current task until none is free.
  /// - Returns: the task's number
  @discardableResult
  private func takeRanges() -> UInt32 {
    var seen = cursor.load(ordering: .acquiring)
    while true {
      let now = Cursor(word: seen)
      let (first, count) = (Int(now.first), count.load(ordering: .acquiring))
      guard first < count else { return now.task }
      let left = count - first
      let length = min(left, max(minimumLength.load(ordering: .acquiring), left / divisor.load(ordering: .acquiring)))
      let next = Cursor(task: now.task, first: UInt32(first + length))
      let (taken, current) = cursor.weakCompareExchange(
        expected: seen, desired: next.word, successOrdering: .acquiring, failureOrdering: .acquiring)
      seen = taken ? next.word : current
      if taken, let body {
        body.pointee(first..<first + length)
        done.wrappingAdd(length, ordering: .releasing)
      }
    }
  }

  /// A worker's loop.
  private func work() {
    var (task, spins): (UInt32, Int) = (0, 0)
    while !stopping.load(ordering: .relaxed) {
      let latest = takeRanges()
      spins = latest == task ? spins + 1 : 0
      task = latest
      graft_pause()
      if spins > Self.pausesToPark {
        park()
        spins = 0
      }
    }
  }

  /// Waits until a range is free or the pool stops.
  private func park() {
    pthread_mutex_lock(mutex)
    parkedWorkers.wrappingAdd(1, ordering: .sequentiallyConsistent)
    while !hasRanges, !stopping.load(ordering: .relaxed) { pthread_cond_wait(condition, mutex) }
    parkedWorkers.wrappingSubtract(1, ordering: .sequentiallyConsistent)
    pthread_mutex_unlock(mutex)
  }

  private var hasRanges: Bool {
    Int(Cursor(word: cursor.load(ordering: .sequentiallyConsistent)).first) < count.load(ordering: .acquiring)
  }

  private func wake() {
    pthread_mutex_lock(mutex)
    pthread_cond_broadcast(condition)
    pthread_mutex_unlock(mutex)
  }
}
