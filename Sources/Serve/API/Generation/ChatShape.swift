import Tokenization
import Formats
import Foundation
import Model

/// Answers of `POST /v1/chat/completions`.
struct ChatShape: ChoiceShape {
  /// How the model writes calls, and the tools that it can call; `nil` if none were offered.
  var tools: (form: ToolCallForm, names: Set<String>)?
  /// Whether what begins like a call is sure to be one.
  var callsAreCertain = false

  let idPrefix = "chatcmpl-"
  let wholeObject = "chat.completion"
  let chunkObject = "chat.completion.chunk"
  let hasPrompts = false

  func makeLogprobs(_ tokenizer: Tokenizer) -> any LogprobsWriter { ChatLogprobs(tokenizer: tokenizer) }

  func makeParser() -> ToolCallStream? {
    tools.map { ToolCallStream($0.form, names: $0.names, isCertain: callsAreCertain) }
  }

  func choice(_ index: Int, _ answer: AnswerContent, logprobs: JSONValue, reason: FinishReason) -> JSONValue {
    var message: [(key: String, value: JSONValue)] = [
      ("role", "assistant"), ("content", answer.text.isEmpty && !answer.calls.isEmpty ? .null : .string(answer.text)),
      ("refusal", .null),
    ]
    if !answer.calls.isEmpty { message.append(("tool_calls", .array(answer.calls.map { .object(Self.json($0)) }))) }
    return [
      "index": .integer(index), "message": .object(JSONObject(keepingFirst: message)), "logprobs": logprobs,
      "finish_reason": Self.reason(reason, answer),
    ]
  }

  func opening(_ index: Int) -> JSONValue? {
    chunk(index, ["role": "assistant", "content": "", "refusal": .null], .null, .null)
  }

  func delta(_ index: Int, text: String, logprobs: JSONValue) -> JSONValue {
    chunk(index, ["content": .string(text)], logprobs, .null)
  }

  /// The first chunk of a call has its id and name. Clients concatenate the arguments of all chunks with its index.
  func calls(_ index: Int, _ parts: [ToolCallPart], begun: Int) -> JSONValue? {
    var entries: [(call: Int, name: String?, arguments: String)] = []
    var call = begun - 1
    for part in parts {
      switch part {
      case .begin(let name):
        call += 1
        entries.append((call: call, name: name, arguments: ""))
      case .arguments(let text):
        if entries.last?.call != call { entries.append((call: call, name: nil, arguments: "")) }
        entries[entries.count - 1].arguments += text
      case .end: break
      }
    }
    if entries.isEmpty { return nil }
    let list = entries.map { entry -> JSONValue in
      var members: [(key: String, value: JSONValue)] = [("index", .integer(entry.call))]
      if let name = entry.name {
        members += Self.json(ToolCall(name: name, arguments: entry.arguments)).pairs
      } else {
        members.append(("function", ["arguments": .string(entry.arguments)]))
      }
      return .object(JSONObject(keepingFirst: members))
    }
    return chunk(index, ["tool_calls": .array(list)], .null, .null)
  }

  func ending(_ index: Int, _ answer: AnswerContent, logprobs: JSONValue, reason: FinishReason) -> JSONValue {
    chunk(index, [:], .null, Self.reason(reason, answer))
  }

  private static func reason(_ reason: FinishReason, _ answer: AnswerContent) -> JSONValue {
    reason == .stop && !answer.calls.isEmpty ? "tool_calls" : .string(reason.rawValue)
  }

  private static func json(_ call: ToolCall) -> JSONObject {
    JSONObject(keepingFirst: [
      ("id", .string("call_" + UUID().uuidString.lowercased().filter { $0 != "-" }.prefix(24))), ("type", "function"),
      ("function", ["name": .string(call.name), "arguments": .string(call.arguments)]),
    ])
  }

  private func chunk(_ index: Int, _ delta: JSONValue, _ logprobs: JSONValue, _ reason: JSONValue) -> JSONValue {
    ["index": .integer(index), "delta": delta, "logprobs": logprobs, "finish_reason": reason]
  }
}

/// The `logprobs` object of a chat's choice: each token with its bytes and the most probable alternatives.
struct ChatLogprobs: LogprobsWriter {
  private let tokenizer: Tokenizer
  private var content: [JSONValue] = []

  init(tokenizer: Tokenizer) { self.tokenizer = tokenizer }

  mutating func append(_ records: [TokenRecord], isPrompt: Bool) {
    for record in records {
      let top = record.top.map { top in
        JSONValue.object(entry(tokenizer.tokenBytes(top.token) ?? [], top.logprob))
      }
      let own = entry(record.bytes, record.logprob).pairs + [(key: "top_logprobs", value: JSONValue.array(top))]
      content.append(.object(JSONObject(keepingFirst: own)))
    }
  }

  private func entry(_ bytes: [UInt8], _ logprob: Float?) -> JSONObject {
    JSONObject(keepingFirst: [
      ("token", .string(CompletionLogprobs.name(bytes))), ("logprob", .logprob(logprob)),
      ("bytes", .array(bytes.map { .integer(Int($0)) })),
    ])
  }

  mutating func take() -> JSONValue {
    defer { content = [] }
    return ["content": .array(content), "refusal": .null]
  }
}
