import Tokenization
import Formats
import Model

/// How a route writes its answers: the whole JSON object, or a stream's chunks.
protocol AnswerShape: Sendable {
  /// What an answer's id begins with.
  var idPrefix: String { get }
  var wholeObject: String { get }
  var chunkObject: String { get }
  func makeLogprobs(_ tokenizer: Tokenizer) -> any LogprobsWriter
  /// Finds calls of tools in a choice's text; `nil` if there are none to find.
  func makeParser() -> ToolCallParser?
  /// A choice of a whole answer.
  func choice(_ index: Int, _ answer: AnswerContent, logprobs: JSONValue, reason: FinishReason) -> JSONValue
  /// What a stream's choice begins with, before any text; `nil` for nothing.
  func opening(_ index: Int) -> JSONValue?
  /// A piece of a stream's choice.
  func piece(_ index: Int, text: String, logprobs: JSONValue) -> JSONValue
  /// Calls of tools in a stream's choice.
  /// - Parameter first: how many came before them
  func calls(_ index: Int, _ calls: [ToolCall], first: Int) -> JSONValue?
  /// The end of a stream's choice.
  /// - Parameter answer: all that was streamed of it
  func ending(_ index: Int, _ answer: AnswerContent, logprobs: JSONValue, reason: FinishReason) -> JSONValue
}

/// What an answer says and does.
struct AnswerContent {
  var text = ""
  var calls: [ToolCall] = []
}

/// Gathers a choice's logprobs in a route's form.
protocol LogprobsWriter {
  /// - Parameter isPrompt: the prompt's own tokens, all at once and before any other
  mutating func append(_ records: [TokenRecord], isPrompt: Bool)
  /// What was appended since the last call.
  mutating func take() -> JSONValue
}

/// Answers of `POST /v1/completions`.
struct CompletionShape: AnswerShape {
  let idPrefix = "cmpl-"
  let wholeObject = "text_completion"
  let chunkObject = "text_completion"

  func makeLogprobs(_ tokenizer: Tokenizer) -> any LogprobsWriter { CompletionLogprobs(tokenizer: tokenizer) }

  func makeParser() -> ToolCallParser? { nil }

  func choice(_ index: Int, _ answer: AnswerContent, logprobs: JSONValue, reason: FinishReason) -> JSONValue {
    json(index, answer.text, logprobs, .string(reason.rawValue))
  }

  func opening(_ index: Int) -> JSONValue? { nil }

  func piece(_ index: Int, text: String, logprobs: JSONValue) -> JSONValue { json(index, text, logprobs, .null) }

  func calls(_ index: Int, _ calls: [ToolCall], first: Int) -> JSONValue? { nil }

  func ending(_ index: Int, _ answer: AnswerContent, logprobs: JSONValue, reason: FinishReason) -> JSONValue {
    json(index, "", logprobs, .string(reason.rawValue))
  }

  private func json(_ index: Int, _ text: String, _ logprobs: JSONValue, _ reason: JSONValue) -> JSONValue {
    ["text": .string(text), "index": .integer(index), "logprobs": logprobs, "finish_reason": reason]
  }
}
