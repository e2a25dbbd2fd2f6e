import Formats
import Dispatch

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A fixed number of threads for work that waits for a disk or takes long.
///
/// The number of threads does not grow with the number of clients, and the work that waits can be limited. With a
/// niceness, the threads yield to those that compute: reading an adapter then delays a token a little, instead of
/// doubling its time.
final class WorkerPool: Sendable {
  typealias Work = @Sendable () -> Void

  private let mailbox: Mailbox<Work>
  private let arrived = DispatchSemaphore(value: 0)

  /// - Parameters:
  ///   - label: names the threads in debuggers; at most 15 bytes of it are used
  ///   - capacity: maximum work that waits for a thread
  ///   - niceness: the threads' Linux nice value, 0...19; each step gives about a tenth less of a contended processor
  init(label: String, threads: Int, capacity: Int = .max, niceness: Int32 = 0) {
    mailbox = Mailbox(capacity: capacity)
    for _ in 0..<threads {
      startThread(label, niceness: niceness) { [mailbox, arrived] in
        while let work = mailbox.waitForFirst(sleep: { arrived.wait() }) { work() }
      }
    }
  }

  /// The threads end after all work that was given to the pool.
  deinit { mailbox.close { arrived.signal() } }

  /// Runs `work` on the first free thread, after all work that was given to the pool earlier.
  /// - Returns: false, with nothing done, if `capacity` pieces of work wait already
  @discardableResult
  func async(_ work: @escaping Work) -> Bool { mailbox.post(work) { arrived.signal() } }
}

/// Starts a thread that runs `body` and ends.
/// - Parameter niceness: the thread's own; on Linux each thread has one
private func startThread(_ label: String, niceness: Int32, _ body: @escaping @Sendable () -> Void) {
  final class Start {
    let label: String
    let niceness: Int32
    let body: @Sendable () -> Void

    init(label: String, niceness: Int32, body: @escaping @Sendable () -> Void) {
      (self.label, self.niceness, self.body) = (label, niceness, body)
    }
  }
  var thread = pthread_t()
  let start = Unmanaged.passRetained(Start(label: label, niceness: niceness, body: body))
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
  // Pools are made when the process starts. Without their threads it could not work.
  precondition(code == 0, "the thread '\(label)' cannot be started: \(systemMessage(code))")
  pthread_detach(thread)
}

/// Names the calling thread for debuggers.
private func nameThread(_ label: String) {
  let descriptor = open("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
  guard descriptor >= 0 else { return }
  // The kernel takes at most 15 bytes.
  let name = Array(label.utf8.prefix(15))
  _ = write(descriptor, name, name.count)
  close(descriptor)
}
