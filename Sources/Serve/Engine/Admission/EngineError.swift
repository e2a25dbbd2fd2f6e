public enum EngineError: Error, Equatable, Sendable {
  /// The engine stops, with the process.
  case shuttingDown
  /// More positions than a sequence may have.
  case exceedsContext(positions: Int, contextLength: Int)
  /// More positions than the whole cache holds.
  case exceedsCache(positions: Int, capacity: Int)
  /// The prompt has a token that the model has no embedding for; tokenizers may know more than their model.
  case noSuchToken(Int32, vocabulary: Int)
  /// So many requests wait that no more are taken; in about so many seconds they will have begun.
  case overloaded(waiting: Int, retryAfter: Int)
  /// The request's own time was over before its first token.
  case timedOut
  /// Hidden states or logits have left the range of f32; without adapters it is the base that does it.
  case notFinite(hasAdapters: Bool)

  public var message: String {
    switch self {
    case .shuttingDown: "the server is shutting down"
    case .exceedsContext(let positions, let contextLength):
      "the request needs \(positions) positions, of which there must be between 1 and \(contextLength)"
    case .exceedsCache(let positions, let capacity):
      "the request needs \(positions) positions of key-value cache, and there are \(capacity) in all (see --kv-memory)"
    case .noSuchToken(let token, let vocabulary):
      "the prompt has the token \(token), and the model knows those from 0 to \(vocabulary - 1)"
    case .overloaded(let waiting, let seconds):
      "\(waiting) requests are waiting already; try again in about \(seconds) s"
    case .notFinite(hasAdapters: true):
      "the model's numbers are not finite with these adapters at these scales: their weights or scales are too large"
    case .notFinite(hasAdapters: false): "the model's numbers are not finite: its own weights are too large"
    case .timedOut: "the request's timeout was over before its first token"
    }
  }
}
