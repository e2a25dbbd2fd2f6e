import Synchronization

/// Messages from any thread to the mailbox's readers, in the order in which they were posted.
///
/// A reader that finds no message sleeps. How it sleeps is its own matter: on a semaphore, in epoll, or by not being
/// scheduled. The mailbox counts the sleeping readers, and `post` calls `wake` for one of them.
final class Mailbox<Message: Sendable>: Sendable {
  /// Whether a reader sleeps after it has looked for messages.
  enum Sleep {
    case never
    case ifEmpty
    case always
  }

  private struct State {
    var messages: [Message] = []
    var isClosed = false
    /// Sleeping readers for which `wake` was not called yet.
    var sleepers: Int
    /// When the reader of `takeAll` last took messages or had a message posted while it slept; `nil` while it sleeps.
    var busySince: ContinuousClock.Instant?
  }

  private let state: Mutex<State>
  private let capacity: Int

  /// - Parameters:
  ///   - capacity: maximum messages that no reader has taken
  ///   - sleepers: readers that sleep from the beginning
  init(capacity: Int = .max, sleepers: Int = 0) {
    state = Mutex(State(sleepers: sleepers))
    self.capacity = capacity
  }

  // MARK: posting

  /// Adds a message.
  /// - Parameter wake: wakes one sleeping reader
  /// - Returns: false, with nothing added, if the mailbox is full or closed
  @discardableResult
  func post(_ message: Message, wake: () -> Void) -> Bool { add(1, wake) { $0.append(message) } }

  /// Adds messages that `takeAll` returns together.
  /// - Parameter wake: wakes one sleeping reader
  /// - Returns: false, with nothing added, if the mailbox is full or closed
  @discardableResult
  func post(contentsOf messages: [Message], wake: () -> Void) -> Bool { add(messages.count, wake) { $0 += messages } }

  private func add(_ count: Int, _ wake: () -> Void, _ append: (inout [Message]) -> Void) -> Bool {
    var hasSleeper = false
    let isAdded = state.withLock { state in
      guard !state.isClosed, count <= capacity - state.messages.count else { return false }
      append(&state.messages)
      state.busySince = state.busySince ?? .now
      hasSleeper = state.sleepers > 0
      if hasSleeper { state.sleepers -= 1 }
      return true
    }
    if hasSleeper { wake() }
    return isAdded
  }

  /// Adds `last`, refuses everything after it, and wakes all sleeping readers. Without effect when closed before.
  /// - Parameter wake: wakes one sleeping reader
  func close(last: Message? = nil, wake: () -> Void) {
    let sleepers = state.withLock { state in
      guard !state.isClosed else { return 0 }
      if let last { state.messages.append(last) }
      state.isClosed = true
      defer { state.sleepers = 0 }
      return state.sleepers
    }
    for _ in 0..<sleepers { wake() }
  }

  // MARK: reading

  /// Takes the first message. Returns `nil` if there is none; the reader then counts as sleeping.
  func takeFirst() -> Message? {
    state.withLock { state in
      guard state.messages.isEmpty else { return state.messages.removeFirst() }
      state.sleepers += 1
      return nil
    }
  }

  /// Takes the first message, and waits for one if there is none.
  /// - Parameter sleep: returns when the reader is woken
  /// - Returns: `nil` when the mailbox is closed and empty
  func waitForFirst(sleep: () -> Void) -> Message? {
    while true {
      var isOver = false
      let message = state.withLock { state -> Message? in
        guard state.messages.isEmpty else { return state.messages.removeFirst() }
        isOver = state.isClosed
        if !isOver { state.sleepers += 1 }
        return nil
      }
      if message != nil || isOver { return message }
      sleep()
    }
  }

  /// Takes all messages.
  /// - Parameter messages: an empty array, whose memory the mailbox uses from now on, so that none is allocated
  func takeAll(into messages: inout [Message], then sleep: Sleep) {
    state.withLock { state in
      swap(&state.messages, &messages)
      let sleeps = sleep == .always || sleep == .ifEmpty && messages.isEmpty
      if sleeps { state.sleepers += 1 }
      state.busySince = sleeps ? nil : .now
    }
  }

  /// How long the reader of `takeAll` has been busy since it last took messages; zero while it sleeps.
  var readerAge: Duration { state.withLock { $0.busySince.map { $0.duration(to: .now) } ?? .zero } }
}
