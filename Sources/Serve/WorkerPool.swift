import Dispatch
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A fixed number of threads, made at start, for work that may wait for a disk or take long: however many clients send
/// such work, there are no more threads, and what waits can be bounded. With a niceness they step back when the threads
/// that compute want the processors: reading an adapter then stretches a token's time by little instead of doubling it.
final class WorkerPool: Sendable {
  typealias Work = @Sendable () -> Void

  private final class Mailbox: Sendable {
    struct State {
      /// Taken work is `nil`, so that nothing it holds outlives it.
      var work: [Work?] = []
      /// Where the next work lies; what is before it was taken.
      var next = 0
      var isClosed = false
    }

    let state = Mutex(State())
    let arrived = DispatchSemaphore(value: 0)

    func take() -> Work? {
      while true {
        arrived.wait()
        let (work, isClosed) = state.withLock { state -> (Work?, Bool) in
          guard state.next < state.work.count else { return (nil, state.isClosed) }
          let work = state.work[state.next]
          state.work[state.next] = nil
          state.next += 1
          if state.next > 64, 2 * state.next > state.work.count {
            state.work.removeFirst(state.next)
            state.next = 0
          }
          return (work, false)
        }
        if let work { return work }
        if isClosed {
          // For the next thread to see it, too.
          arrived.signal()
          return nil
        }
      }
    }
  }

  private let mailbox = Mailbox()
  private let capacity: Int

  /// - Parameters:
  ///   - capacity: how much work may wait at most
  ///   - niceness: 0...19, of which each step gives about a tenth less of a processor that others want, too
  init(label: String, threads: Int, capacity: Int = .max, niceness: Int32 = 0) {
    self.capacity = capacity
    for _ in 0..<threads {
      startThread(label, niceness: niceness) { [mailbox] in
        while let work = mailbox.take() { work() }
      }
    }
  }

  /// What was handed in is still done.
  deinit {
    mailbox.state.withLock { $0.isClosed = true }
    mailbox.arrived.signal()
  }

  /// Has `work` done after what was handed in before, by whichever thread is free.
  /// - Returns: false, with nothing done, where `capacity` of work waits already
  @discardableResult
  func async(_ work: @escaping Work) -> Bool {
    let isTaken = mailbox.state.withLock { state in
      guard state.work.count - state.next < capacity else { return false }
      state.work.append(work)
      return true
    }
    if isTaken { mailbox.arrived.signal() }
    return isTaken
  }
}

/// Work that is done in its order, one piece after the other, on a pool that others use too.
final class SerialLane: Sendable {
  private struct State {
    var work: [WorkerPool.Work] = []
    var isScheduled = false
  }

  private let pool: WorkerPool
  private let state = Mutex(State())

  init(_ pool: WorkerPool) { self.pool = pool }

  func async(_ work: @escaping WorkerPool.Work) {
    let isFirst = state.withLock { state in
      state.work.append(work)
      defer { state.isScheduled = true }
      return !state.isScheduled
    }
    if isFirst { schedule() }
  }

  private func schedule() {
    pool.async { [self] in
      let work = state.withLock { $0.work.isEmpty ? nil : $0.work.removeFirst() }
      work?()
      // Other lanes have their turn before the rest.
      let hasMore = state.withLock { state in
        state.isScheduled = !state.work.isEmpty
        return state.isScheduled
      }
      if hasMore { schedule() }
    }
  }
}

/// Starts a thread that runs `body` and ends.
/// - Parameter niceness: of this thread alone, as Linux has it
private func startThread(_ label: String, niceness: Int32, _ body: @escaping @Sendable () -> Void) {
  final class Start {
    let label: String
    let niceness: Int32
    let body: @Sendable () -> Void

    init(_ label: String, _ niceness: Int32, _ body: @escaping @Sendable () -> Void) {
      (self.label, self.niceness, self.body) = (label, niceness, body)
    }
  }
  var thread = pthread_t()
  let start = Unmanaged.passRetained(Start(label, niceness, body))
  let code = pthread_create(
    &thread, nil,
    { context in
      guard let context else { return nil }
      let start = Unmanaged<Start>.fromOpaque(context).takeRetainedValue()
      nameThread(start.label)
      _ = nice(start.niceness)
      start.body()
      return nil
    }, start.toOpaque())
  // Pools are made when the process starts, which cannot go on without their threads.
  precondition(code == 0, "the thread '\(label)' cannot be started: \(systemMessage(code))")
  pthread_detach(thread)
}

/// Names the calling thread, as debuggers show it; names have at most 15 bytes.
private func nameThread(_ label: String) {
  let descriptor = open("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
  guard descriptor >= 0 else { return }
  let name = Array(label.utf8.prefix(15))
  _ = write(descriptor, name, name.count)
  close(descriptor)
}
