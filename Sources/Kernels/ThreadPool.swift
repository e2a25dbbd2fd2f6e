import CKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif
import Synchronization

/// Compute threads that share out the parts of one task at a time; the caller's thread is one of them.
///
/// A task is over when all of it is done, whoever did it: a worker that the system has set aside between two tasks holds
/// nobody up. Workers spin for one or two hundred microseconds after a task, as the next one usually follows at once, then
/// park. Which thread does a part never changes the part's result.
///
/// `@unchecked Sendable`: `body` is written only by the caller of `run`, while `claim` says that there is nothing to take,
/// and read only by threads that have taken a range, before they say that it is done; `run` may be called from one thread
/// at a time.
public final class ThreadPool: @unchecked Sendable {
  public let threadCount: Int

  private var body: UnsafePointer<(Range<Int>) -> Void>?
  /// The task's number, and the first index that no thread has taken: together, so that nobody who was set aside meanwhile
  /// takes a range of another task than the one that he saw.
  private let claim = Atomic<UInt64>(Claim.closed(0).word)
  private let count = Atomic<Int>(0)
  /// A range's least length.
  private let least = Atomic<Int>(1)
  /// It is longer where that is less than such a part of what is left.
  private let share = Atomic<Int>(.max)
  /// How many of the task's indices are done.
  private let done = Atomic<Int>(0)
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

  private struct Claim {
    let task: UInt32
    let first: UInt32

    /// Of a task that is over, or not ready.
    static func closed(_ task: UInt32) -> Claim { Claim(task: task, first: .max) }

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

  private func run(_ count: Int, least: Int, share: Int, _ body: (Range<Int>) -> Void) {
    guard count > 0 else { return }
    guard count > least, !threads.isEmpty else {
      for first in stride(from: 0, to: count, by: least) { body(first..<min(first + least, count)) }
      return
    }
    precondition(count < UInt32.max)
    withoutActuallyEscaping(body) { escaping in
      withUnsafePointer(to: escaping) { body in
        let task = Claim(word: claim.load(ordering: .relaxed)).task &+ 1
        self.body = body
        // Whoever sees these sees that the task before is closed.
        self.count.store(count, ordering: .releasing)
        self.least.store(least, ordering: .releasing)
        self.share.store(share, ordering: .releasing)
        done.store(0, ordering: .relaxed)
        claim.store(Claim(task: task, first: 0).word, ordering: .sequentiallyConsistent)
        if parkedWorkers.load(ordering: .sequentiallyConsistent) > 0 { wake() }
        takeRanges()
        var spins = 0
        while done.load(ordering: .acquiring) < count {
          spins += 1
          graft_pause()
          if spins > Self.pausesToYield { sched_yield() }
        }
        claim.store(Claim.closed(task).word, ordering: .relaxed)
        self.body = nil
      }
    }
  }

  /// Pauses before a thread that waits for the others leaves its core to whoever wants it.
  private static let pausesToYield = 2_000
  /// Pauses before a worker parks: more than what comes between two passes of the model takes, since waking a parked
  /// thread costs the caller tens of microseconds where the machine is virtual.
  private static let pausesToPark = 8_000

  /// Does ranges of the task at hand until none is left; returns its number.
  @discardableResult
  private func takeRanges() -> UInt32 {
    var seen = claim.load(ordering: .acquiring)
    while true {
      let now = Claim(word: seen)
      let (first, count) = (Int(now.first), count.load(ordering: .acquiring))
      guard first < count else { return now.task }
      let left = count - first
      let length = min(left, max(least.load(ordering: .acquiring), left / share.load(ordering: .acquiring)))
      let next = Claim(task: now.task, first: UInt32(first + length))
      let (taken, current) = claim.weakCompareExchange(
        expected: seen, desired: next.word, successOrdering: .acquiring, failureOrdering: .acquiring)
      seen = taken ? next.word : current
      if taken, let body {
        body.pointee(first..<first + length)
        done.wrappingAdd(length, ordering: .releasing)
      }
    }
  }

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

  private func park() {
    pthread_mutex_lock(mutex)
    parkedWorkers.wrappingAdd(1, ordering: .sequentiallyConsistent)
    while !hasRanges, !stopping.load(ordering: .relaxed) { pthread_cond_wait(condition, mutex) }
    parkedWorkers.wrappingSubtract(1, ordering: .sequentiallyConsistent)
    pthread_mutex_unlock(mutex)
  }

  private var hasRanges: Bool {
    Int(Claim(word: claim.load(ordering: .sequentiallyConsistent)).first) < count.load(ordering: .acquiring)
  }

  private func wake() {
    pthread_mutex_lock(mutex)
    pthread_cond_broadcast(condition)
    pthread_mutex_unlock(mutex)
  }
}
