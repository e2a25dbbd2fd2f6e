/// Where the answer to a line of a batch goes.
///
/// `@unchecked Sendable`: everything but `close` is used on the loop only.
final class BatchLineTarget: AnswerTarget, @unchecked Sendable {
  let loop: EventLoop
  private let finish: @Sendable (_ status: Int, _ body: [UInt8]) -> Void
  private var closeHandler: (() -> Void)?
  private(set) var isClosed = false
  private var isAnswered = false

  /// - Parameter finish: called on the loop with the answer, unless the target is closed before
  init(loop: EventLoop, finish: @escaping @Sendable (_ status: Int, _ body: [UInt8]) -> Void) {
    self.loop = loop
    self.finish = finish
  }

  /// The answer is not wanted any more. From any thread.
  func close() {
    loop.execute { [self] in
      if isAnswered || isClosed { return }
      isClosed = true
      closeHandler?()
      closeHandler = nil
    }
  }

  func onClose(_ handler: @escaping () -> Void) {
    if isClosed { return handler() }
    if !isAnswered { closeHandler = handler }
  }

  func respond(status: Int, headers: HTTPHeaders, body: [UInt8]) {
    if isAnswered || isClosed { return }
    isAnswered = true
    closeHandler = nil
    finish(status, body)
  }

  // Lines with `stream` are refused before they run.
  func startStreaming(status: Int, headers: HTTPHeaders, length: Int?) {}
  func write(_ bytes: [UInt8]) -> Bool { true }
  func end() {}
}
