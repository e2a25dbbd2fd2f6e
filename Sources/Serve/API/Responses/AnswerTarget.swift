/// Where an answer goes: to a client's connection, or into the results of a batch. Used on its loop only.
protocol AnswerTarget: AnyObject, Sendable {
  var loop: EventLoop { get }
  /// Whether the answer can no longer be delivered: the client has left, or the batch has stopped.
  var isClosed: Bool { get }
  /// Calls `handler` once when `isClosed` becomes true. A later handler replaces an earlier one.
  func onClose(_ handler: @escaping () -> Void)
  /// Answers at once.
  func respond(status: Int, headers: HTTPHeaders, body: [UInt8])
  /// Begins an answer whose body follows in parts.
  func startStreaming(status: Int, headers: HTTPHeaders, length: Int?)
  /// Adds a part.
  /// - Returns: whether more can be written at once
  @discardableResult func write(_ bytes: [UInt8]) -> Bool
  /// Adds these bytes whenever no part came for some time.
  func fillSilence(with bytes: [UInt8])
  /// Ends an answer that was begun by `startStreaming`.
  func end()
}

extension AnswerTarget {
  /// Does nothing: a target without a connection of its own, such as a batch's line, has none that silence could end.
  func fillSilence(with bytes: [UInt8]) {}
}

extension HTTPExchange: AnswerTarget {}
