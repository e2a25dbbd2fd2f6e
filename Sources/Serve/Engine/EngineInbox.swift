#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// The only way into the engine: messages from any thread, drained by the engine's own.
///
/// `@unchecked Sendable`: `messages`, `nextID` and `isClosed` are touched under the mutex alone.
final class EngineInbox: @unchecked Sendable {
  enum Message: Sendable {
    case submit(GenerationID, GenerationRequest, @Sendable (GenerationEvent) -> Void)
    case cancel(GenerationID)
    case stop
  }

  private var messages: [Message] = []
  private var nextID: UInt64 = 0
  private var isClosed = false
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let arrived = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

  init() {
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(arrived, nil)
  }

  deinit {
    pthread_cond_destroy(arrived)
    pthread_mutex_destroy(mutex)
    arrived.deallocate()
    mutex.deallocate()
  }

  func makeID() -> GenerationID {
    locked {
      nextID += 1
      return GenerationID(value: nextID)
    }
  }

  /// False if the inbox is closed, and nobody will read the message.
  @discardableResult
  func post(_ message: Message) -> Bool {
    locked {
      if isClosed { return false }
      messages.append(message)
      pthread_cond_signal(arrived)
      return true
    }
  }

  /// Posts `stop` as the last message.
  func close() {
    locked {
      if !isClosed { messages.append(.stop) }
      isClosed = true
      pthread_cond_signal(arrived)
    }
  }

  /// Everything that has arrived; waits for something to arrive if told to.
  func drain(waiting: Bool) -> [Message] {
    locked {
      while waiting && messages.isEmpty { pthread_cond_wait(arrived, mutex) }
      defer { messages.removeAll(keepingCapacity: true) }
      return messages
    }
  }

  private func locked<Value>(_ body: () -> Value) -> Value {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    return body()
  }
}
