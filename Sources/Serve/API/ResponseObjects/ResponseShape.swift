import Formats
import Model
import Tokenization

/// Answers of `POST /v1/responses`.
struct ResponseShape: AnswerShape {
  /// How a chat with the same tools answers.
  let chat: ChatShape
  /// The members of the response that repeat the request.
  let settings: [(key: String, value: JSONValue)]
  /// The request's own items.
  let input: [JSONValue]
  /// The items of earlier responses.
  let earlier: [JSONValue]
  /// The memory of the items.
  let memory: [HeldMemory]
  /// Where the response is kept; `nil` if it is not.
  let store: ResponseStore?

  let idPrefix = "resp_"

  func makeLogprobs(_ tokenizer: Tokenizer) -> any LogprobsWriter { chat.makeLogprobs(tokenizer) }

  func makeParser() -> ToolCallStream? { chat.makeParser() }

  func makeWriter(_ frame: AnswerFrame, to target: any AnswerTarget, encoding: WorkerPool) -> any AnswerWriter {
    ResponseWriter(self, frame, to: target, encoding: encoding)
  }

  /// The response object.
  /// - Parameters:
  ///   - status: `in_progress`, `completed`, `incomplete` or `failed`
  ///   - usage: `nil` until it is known
  func response(
    _ frame: AnswerFrame, status: String, output: [JSONValue], usage: GenerationUsage? = nil, error: APIError? = nil
  ) -> JSONValue {
    var pairs: [(key: String, value: JSONValue)] = [
      ("id", .string(frame.id)), ("object", "response"), ("created_at", .integer(frame.created)),
      ("status", .string(status)), ("background", false),
      ("error", error.map { ["code": "server_error", "message": .string($0.message)] } ?? .null),
      ("incomplete_details", status == "incomplete" ? ["reason": "max_output_tokens"] : .null),
      ("model", .string(frame.model)), ("output", .array(output)),
    ]
    pairs += settings
    pairs.append(
      (
        "usage",
        usage.map { usage in
          [
            "input_tokens": .integer(usage.promptTokens),
            "input_tokens_details": ["cached_tokens": .integer(usage.cachedTokens), "cache_write_tokens": 0],
            "output_tokens": .integer(usage.completionTokens), "output_tokens_details": ["reasoning_tokens": 0],
            "total_tokens": .integer(usage.promptTokens + usage.completionTokens),
          ]
        } ?? .null
      ))
    return .object(JSONObject(keepingFirst: pairs))
  }
}
