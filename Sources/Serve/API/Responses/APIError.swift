import Formats
import Model

/// An error as OpenAI's clients know it: a status with `{"error": {message, type, param, code}}`.
struct APIError: Error, Equatable {
  var status: Int
  var type: String
  var message: String
  var param: String?
  var code: String?
  /// Seconds for the header `Retry-After`.
  var retryAfter: Int?
  /// Whether OpenAI's clients may repeat the request on their own, as they do after some statuses.
  var mayBeRepeated = true
  /// Whether only other requests cause it, so that it passes when these have ended.
  var waitsForOthers = false

  /// An error of the client.
  static func invalid(_ message: String, param: String? = nil, code: String? = nil, status: Int = 400) -> APIError {
    APIError(status: status, type: "invalid_request_error", message: message, param: param, code: code)
  }

  /// A 404 for a model or adapter.
  static func modelNotFound(_ name: String, param: String) -> APIError {
    invalid("The model or adapter '\(name)' does not exist", param: param, code: "model_not_found", status: 404)
  }

  /// OpenAI's words for a request that does not fit into the context.
  /// - Parameter isMinimum: the prompt has at least so many tokens; not all were counted
  static func exceedsContext(
    _ length: Int, prompt: Int, completion: Int, param: String, isMinimum: Bool = false
  ) -> APIError {
    let part = param == "messages" ? "messages" : "prompt"
    let asked =
      prompt >= length
      ? "your \(part) resulted in \(isMinimum ? "at least " : "")\(prompt) tokens. Please reduce the length of the \(part)."
      : "you requested \(prompt + completion) tokens (\(prompt) in the \(part), \(completion) in the completion). "
        + "Please reduce the length of the \(part) or completion."
    return .invalid(
      "This model's maximum context length is \(length) tokens. However, \(asked)", param: param,
      code: "context_length_exceeded")
  }

  /// An error that has only a status and a message, such as those of the HTTP layer.
  static func plain(status: Int, message: String) -> APIError {
    APIError(
      status: status, type: status < 500 ? "invalid_request_error" : "server_error", message: message, param: nil,
      code: code(of: status))
  }

  private static func code(of status: Int) -> String? {
    switch status {
    case 401: "invalid_api_key"
    case 403: "permission_denied"
    case 404: "not_found"
    case 405: "method_not_allowed"
    case 408: "timeout"
    case 409: "conflict"
    case 413: "request_too_large"
    case 415: "unsupported_media_type"
    case 429: "rate_limit_exceeded"
    case 500: "internal_error"
    case 503: "unavailable"
    default: nil
    }
  }

  var json: JSONValue {
    [
      "error": [
        "message": .string(message), "type": .string(type), "param": param.map(JSONValue.string) ?? .null,
        "code": code.map(JSONValue.string) ?? .null,
      ]
    ]
  }
}
