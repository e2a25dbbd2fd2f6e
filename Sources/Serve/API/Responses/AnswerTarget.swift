/// Where an answer goes: to a client's connection, or into the results of a batch. Used on its loop only.
protocol AnswerTarget: AnyObject, Sendable {
  var loop: EventLoop { get }
  /// Whether the answer can no longer be delivered: the client has left, or the batch has stopped.
  var isClosed: Bool { get }
  /// Whether the answer's status was sent.
  var hasBegunResponse: Bool { get }
  /// Calls `handler` once when `isClosed` becomes true. A later handler replaces an earlier one.
  func onClose(_ handler: @escaping () -> Void)
  /// Answers at once.
  func respond(status: Int, headers: HTTPHeaders, body: [UInt8])
  /// Begins an answer whose body follows in parts.
  func startStreaming(status: Int, headers: HTTPHeaders, length: Int?)
  /// Adds a part.
  /// - Returns: whether more can be written at once
  @discardableResult func write(_ bytes: [UInt8]) -> Bool
  /// Calls `handler` once if the answer does not begin for some time.
  func onSilence(_ handler: @escaping () -> Void)
  /// Adds these bytes whenever no part came for some time.
  func fillSilence(with bytes: [UInt8])
  /// Ends an answer that was begun by `startStreaming`.
  func end()
}

/// A target without a connection of its own, such as a batch's line, gets whole answers, and has nothing that silence could end.
extension AnswerTarget {
  var hasBegunResponse: Bool { false }
  func onSilence(_ handler: @escaping () -> Void) {}
  func fillSilence(with bytes: [UInt8]) {}
}

extension HTTPExchange: AnswerTarget {}
