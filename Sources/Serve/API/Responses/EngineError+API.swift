import Model

extension EngineError {
  /// The error as OpenAI's clients know it.
  var apiError: APIError {
    switch self {
    case .shuttingDown: .plain(status: 503, message: message)
    case .exceedsContext, .exceedsCache: .invalid(advice, code: "context_length_exceeded")
    case .exceedsQueue: .invalid(message, param: "n", code: "invalid_value")
    case .noSuchToken: .invalid(message, param: "prompt", code: "invalid_value")
    case .notFinite(let hasAdapters):
      hasAdapters ? .invalid(message, param: "adapter", code: "not_finite") : .plain(status: 500, message: message)
    case .constraintFailed: .invalid(message, code: "constraint_failed")
    case .constraintStopped: .invalid(message, param: "stop_token_ids", code: "constraint_failed")
    case .overloaded(_, let seconds):
      APIError(
        status: 429, type: "requests", message: message, param: nil, code: "rate_limit_exceeded", retryAfter: seconds)
    case .timedOut:
      // OpenAI's clients repeat a request after a 408 unless a header forbids it. The repeated request would take as
      // long again.
      APIError(
        status: 408, type: "timeout", message: message, param: "timeout", code: "timeout", mayBeRepeated: false)
    }
  }
}
