import Dispatch

/// The only way into the engine: messages from any thread, read by the engine's thread.
final class EngineInbox: Sendable {
  enum Message: Sendable {
    /// - Parameter sink: called on the engine's thread
    case submit(GenerationRequest, Admission, sink: @Sendable (GenerationEvent) -> Void)
    case cancel(GenerationID)
    /// The last message.
    case stop
  }

  private let mailbox = Mailbox<Message>()
  private let arrived = DispatchSemaphore(value: 0)

  /// - Returns: false, with nothing posted, after `close`
  @discardableResult
  func post(_ messages: Message...) -> Bool { post(messages) }

  /// Posts messages that the engine reads between the same two passes.
  /// - Returns: false, with nothing posted, after `close`
  func post(_ messages: [Message]) -> Bool { mailbox.post(contentsOf: messages) { arrived.signal() } }

  /// Posts `stop` as the last message. May be called again.
  func close() { mailbox.close(last: .stop) { arrived.signal() } }

  /// Takes all messages that were posted since the last call.
  /// - Parameter waiting: whether to wait for a message if there is none
  func drain(waiting: Bool) -> [Message] {
    var messages: [Message] = []
    while true {
      mailbox.takeAll(into: &messages, then: waiting ? .ifEmpty : .never)
      if !messages.isEmpty || !waiting { return messages }
      arrived.wait()
    }
  }

  /// How long the engine's thread has been busy since the last `drain`; zero while it waits there. It exceeds the time
  /// of a pass only if the thread hangs.
  var turnAge: Duration { mailbox.readerAge }
}
