import Foundation
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Work that is done in order on a thread of its own, which steps back when the threads that compute want the
/// processors: reading an adapter then stretches a token's time by little instead of doubling it.
final class BackgroundQueue: Sendable {
  typealias Work = @Sendable () -> Void

  private final class Mailbox: Sendable {
    private let work = Mutex<(items: [Work], isClosed: Bool)>(([], false))
    private let arrived = DispatchSemaphore(value: 0)

    func post(_ item: @escaping Work) {
      work.withLock { $0.items.append(item) }
      arrived.signal()
    }

    func close() {
      work.withLock { $0.isClosed = true }
      arrived.signal()
    }

    /// The next piece of work, or `nil` when there will be none.
    func next() -> Work? {
      while true {
        arrived.wait()
        let (item, isClosed) = work.withLock { work in
          (work.items.isEmpty ? nil : work.items.removeFirst(), work.isClosed)
        }
        if let item { return item }
        if isClosed { return nil }
      }
    }
  }

  private let mailbox = Mailbox()

  /// - Parameter niceness: 0...19, of which each step gives about a tenth less of a processor that others want, too
  init(label: String, niceness: Int32) {
    let thread = Thread { [mailbox] in
      // On Linux this is the calling thread's alone.
      _ = nice(niceness)
      while let work = mailbox.next() { work() }
    }
    thread.name = label
    thread.start()
  }

  /// What was handed in is still done.
  deinit { mailbox.close() }

  func async(_ work: @escaping Work) { mailbox.post(work) }
}
