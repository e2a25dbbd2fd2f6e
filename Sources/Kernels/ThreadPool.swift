import CKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif
import Synchronization

/// Compute threads that share out the parts of one task at a time; the caller's thread is one of them.
///
/// Workers spin for a few tens of microseconds after a task, as the next one usually follows at once, then park.
/// Which thread does a part never changes the part's result.
///
/// `@unchecked Sendable`: `task` is written only by the caller of `run`, before the generation that publishes it;
/// `run` may be called from one thread at a time.
public final class ThreadPool: @unchecked Sendable {
  public let threadCount: Int

  private var task: (body: UnsafeRawPointer, call: (UnsafeRawPointer, Int) -> Void)?
  private let partCount = Atomic<Int>(0)
  private let nextPart = Atomic<Int>(0)
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
    guard parts > 1, !threads.isEmpty else {
      for part in 0..<max(parts, 0) { body(part) }
      return
    }
    withoutActuallyEscaping(body) { escaping in
      withUnsafePointer(to: escaping) { pointer in
        task = (
          UnsafeRawPointer(pointer),
          { raw, part in raw.assumingMemoryBound(to: ((Int) -> Void).self).pointee(part) }
        )
        partCount.store(parts, ordering: .relaxed)
        nextPart.store(0, ordering: .relaxed)
        unfinishedWorkers.store(threads.count, ordering: .relaxed)
        generation.wrappingAdd(1, ordering: .sequentiallyConsistent)
        if parkedWorkers.load(ordering: .sequentiallyConsistent) > 0 { wake() }
        takeParts()
        var spins = 0
        while unfinishedWorkers.load(ordering: .acquiring) > 0 {
          spins += 1
          graft_pause()
          if spins > Self.spinLimit { sched_yield() }
        }
        task = nil
      }
    }
  }

  /// Splits 0 ..< count into ranges of at least `grain`, a few to a thread so that uneven threads end together.
  public func run(count: Int, grain: Int, _ body: (Range<Int>) -> Void) {
    let wanted = threadCount == 1 ? 1 : threadCount * 4
    run(count: count, size: max(grain, (count + wanted - 1) / wanted), body)
  }

  /// Splits 0 ..< count into ranges of `size`.
  public func run(count: Int, size: Int, _ body: (Range<Int>) -> Void) {
    guard count > 0 else { return }
    let parts = (count + size - 1) / size
    run(parts: parts) { part in body(part * size..<min((part + 1) * size, count)) }
  }

  private static let spinLimit = 2_000

  private func takeParts() {
    guard let task else { return }
    let count = partCount.load(ordering: .relaxed)
    while true {
      let part = nextPart.wrappingAdd(1, ordering: .relaxed).oldValue
      if part >= count { return }
      task.call(task.body, part)
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
        if spins > Self.spinLimit {
          park(seen)
          spins = 0
        }
      }
      if stopping.load(ordering: .relaxed) { return }
      seen += 1
      takeParts()
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
