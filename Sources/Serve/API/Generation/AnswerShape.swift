import Tokenization
import Formats
import Model

/// How a route writes its answers.
protocol AnswerShape: Sendable {
  /// The beginning of an answer's id.
  var idPrefix: String { get }
  /// Makes a writer for a choice's log-probabilities.
  func makeLogprobs(_ tokenizer: Tokenizer) -> any LogprobsWriter
  /// Makes what finds tool calls in a choice's text; `nil` where no tools were offered.
  func makeParser() -> ToolCallStream?
  /// Makes the writer of an answer.
  /// - Parameter encoding: encodes what takes long
  func makeWriter(_ frame: AnswerFrame, to target: any AnswerTarget, encoding: WorkerPool) -> any AnswerWriter
}

/// How a route with choices writes its answers: as one JSON object, or as a stream of chunks.
protocol ChoiceShape: AnswerShape {
  /// `object` of a whole answer.
  var wholeObject: String { get }
  /// Whether each choice has a prompt of its own, and so the log-probabilities of it; else the answer has them.
  var hasPrompts: Bool { get }
  /// `object` of a stream's chunk.
  var chunkObject: String { get }
  /// A choice of a whole answer.
  func choice(_ index: Int, _ answer: AnswerContent, logprobs: JSONValue, reason: FinishReason) -> JSONValue
  /// The first chunk of a stream's choice, before any text; `nil` for none.
  func opening(_ index: Int) -> JSONValue?
  /// Further text of a stream's choice.
  func delta(_ index: Int, text: String, logprobs: JSONValue) -> JSONValue
  /// Parts of tool calls in a stream's choice.
  /// - Parameter begun: how many calls have begun before them
  func calls(_ index: Int, _ parts: [ToolCallPart], begun: Int) -> JSONValue?
  /// The last chunk of a stream's choice.
  /// - Parameter answer: all that was streamed of the choice
  func ending(_ index: Int, _ answer: AnswerContent, logprobs: JSONValue, reason: FinishReason) -> JSONValue
}

extension ChoiceShape {
  func makeWriter(_ frame: AnswerFrame, to target: any AnswerTarget, encoding: WorkerPool) -> any AnswerWriter {
    ChoiceWriter(self, frame, to: target, encoding: encoding)
  }
}

/// The text and the tool calls of a choice.
struct AnswerContent {
  var text = ""
  /// Those that have begun. The arguments of the last one may be cut, by the end of the answer say.
  var calls: [ToolCall] = []

  mutating func add(_ part: ToolCallPart) {
    switch part {
    case .begin(let name): calls.append(ToolCall(name: name, arguments: ""))
    case .arguments(let text): calls[calls.count - 1].arguments += text
    case .end: break
    }
  }
}

/// Gathers a choice's log-probabilities in a route's form.
protocol LogprobsWriter {
  /// Adds tokens.
  /// - Parameter isPrompt: they are the prompt's own tokens, which come before all others
  mutating func append(_ records: [TokenRecord], isPrompt: Bool)
  /// What was appended since the last call.
  mutating func take() -> JSONValue
}

/// Answers of `POST /v1/completions`.
struct CompletionShape: ChoiceShape {
  let idPrefix = "cmpl-"
  let wholeObject = "text_completion"
  let chunkObject = "text_completion"
  let hasPrompts = true

  func makeLogprobs(_ tokenizer: Tokenizer) -> any LogprobsWriter { CompletionLogprobs(tokenizer: tokenizer) }

  func makeParser() -> ToolCallStream? { nil }

  func choice(_ index: Int, _ answer: AnswerContent, logprobs: JSONValue, reason: FinishReason) -> JSONValue {
    json(index, answer.text, logprobs, .string(reason.rawValue))
  }

  func opening(_ index: Int) -> JSONValue? { nil }

  func delta(_ index: Int, text: String, logprobs: JSONValue) -> JSONValue { json(index, text, logprobs, .null) }

  func calls(_ index: Int, _ parts: [ToolCallPart], begun: Int) -> JSONValue? { nil }

  func ending(_ index: Int, _ answer: AnswerContent, logprobs: JSONValue, reason: FinishReason) -> JSONValue {
    json(index, "", logprobs, .string(reason.rawValue))
  }

  private func json(_ index: Int, _ text: String, _ logprobs: JSONValue, _ reason: JSONValue) -> JSONValue {
    ["text": .string(text), "index": .integer(index), "logprobs": logprobs, "finish_reason": reason]
  }
}
