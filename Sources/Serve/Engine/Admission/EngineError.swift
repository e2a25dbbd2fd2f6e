/// Why the engine does not generate what was asked.
public enum EngineError: Error, Equatable, Sendable {
  /// The engine stops with the process.
  case shuttingDown
  /// The request needs more positions than the model's context has.
  case exceedsContext(positions: Int, contextLength: Int)
  /// The request needs more positions than the whole key-value cache has.
  case exceedsCache(positions: Int, capacity: Int)
  /// The prompt has a token that the model has no embedding for. A tokenizer may have more tokens than its model.
  case noSuchToken(Int32, vocabulary: Int)
  /// Too many requests wait. `retryAfter` is about how many seconds it takes until all of them have started.
  case overloaded(waiting: Int, retryAfter: Int)
  /// The request of a batch has more answers than can ever wait.
  case exceedsQueue(answers: Int, capacity: Int)
  /// The request's timeout passed before its first token.
  case timedOut
  /// Hidden states or logits are infinite or not a number. The cause is the adapters, or the base where there are none.
  case notFinite(hasAdapters: Bool)
  /// The answer cannot follow its grammar any further, for this reason.
  case constraintFailed(String)
  /// All tokens that the grammar allows next would end the answer, before its form is complete.
  case constraintStopped

  /// What happened, in a sentence for the client.
  public var message: String {
    switch self {
    case .shuttingDown: "the server is shutting down"
    case .exceedsContext(let positions, let contextLength):
      "the request needs \(positions) positions, of which there must be between 1 and \(contextLength)"
    case .exceedsCache(let positions, let capacity):
      "the request needs \(positions) positions of key-value cache, and there are \(capacity) in all"
    case .noSuchToken(let token, let vocabulary):
      "the prompt has the token \(token), and the model knows those from 0 to \(vocabulary - 1)"
    case .overloaded(let waiting, let seconds):
      "\(waiting) requests are waiting already; try again in about \(seconds) s"
    case .exceedsQueue(let answers, let capacity):
      "the request has \(answers) answers, and at most \(capacity) can wait at once (--max-queue)"
    case .notFinite(hasAdapters: true):
      "the model's numbers are not finite with these adapters at these scales: their weights or scales are too large"
    case .notFinite(hasAdapters: false): "the model's numbers are not finite: its own weights are too large"
    case .constraintFailed(let reason): "the answer cannot follow its grammar any further: \(reason)"
    case .constraintStopped:
      "the answer cannot follow its grammar any further: its form is not complete, and every token that could come next is "
        + "one of 'stop_token_ids'"
    case .timedOut: "the request's timeout was over before its first token"
    }
  }
}
