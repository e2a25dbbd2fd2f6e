import Formats
import Model
import Testing

@testable import Serve

@Suite struct ResponseWriterTests {
  /// Collects what is written.
  private final class Target: AnswerTarget, @unchecked Sendable {
    let loop: EventLoop
    let isClosed = false
    var status: Int?
    var bytes: [UInt8] = []
    var hasEnded = false

    init() throws { loop = try EventLoop() }

    func onClose(_ handler: @escaping () -> Void) {}
    func respond(status: Int, headers: HTTPHeaders, body: [UInt8]) {
      (self.status, bytes, hasEnded) = (status, body, true)
    }
    func startStreaming(status: Int, headers: HTTPHeaders, length: Int?) { self.status = status }
    func write(_ bytes: [UInt8]) -> Bool {
      self.bytes += bytes
      return true
    }
    func end() { hasEnded = true }

    /// The body's JSON.
    func json() throws -> JSONObject? { try JSONValue.parse(bytes, subject: "response").object }

    /// The events' JSON, whose type is also the event's name.
    func events() throws -> [JSONObject] {
      try String(decoding: bytes, as: UTF8.self).split(separator: "\n\n").map { block in
        let lines = block.split(separator: "\n")
        let data = try #require(lines.last?.dropFirst(6))
        let parsed = try JSONValue.parse(Array(data.utf8), subject: "event")
        let event = try #require(parsed.object)
        #expect(lines.count == 2 && lines[0] == "event: \(event["type"]?.string ?? "")")
        return event
      }
    }
  }

  private func writer(
    _ target: any AnswerTarget, stream: Bool, encoding: WorkerPool = WorkerPool(label: "test", threads: 1)
  ) -> ResponseWriter {
    let shape = ResponseShape(
      chat: ChatShape(), settings: [("tools", [])], input: [], earlier: [], memory: [], store: nil)
    return ResponseWriter(
      shape,
      AnswerFrame(id: "resp_1", created: 7, model: "m", fingerprint: "fp", stream: stream, includeUsage: false),
      to: target, encoding: encoding)
  }

  private let usage = GenerationUsage(promptTokens: 5, completionTokens: 3, cachedTokens: 2)
  private let calls = [ToolCall(name: "f", arguments: "{\"a\":1}"), ToolCall(name: "g", arguments: "{}")]
  private var parts: [ToolCallPart] {
    calls.flatMap { call -> [ToolCallPart] in
      [.begin(name: call.name), .arguments(call.arguments), .end(isComplete: true)]
    }
  }

  private func write(_ writer: ResponseWriter) {
    writer.open(0)
    writer.add("Let me", logprobs: nil, to: 0)
    writer.add(" see.", logprobs: nil, to: 0)
    writer.add(parts, begun: 0, to: 0)
    writer.end(0, AnswerContent(text: "Let me see.", calls: calls), logprobs: nil, reason: .stop)
    writer.finish([FinishedChoice(answer: AnswerContent(), logprobs: nil, reason: .stop)], usage: usage)
  }

  /// A call that was being written ends before the text that came with its end, so each item has an index of its own.
  @Test func textBehindAnOpenCallIsAnItemOfItsOwn() throws {
    let target = try Target()
    let writer = writer(target, stream: true)
    writer.open(0)
    writer.add([.begin(name: "f"), .arguments("{}")], begun: 0, to: 0)
    let found: [ToolCallPart] = [.end(isComplete: true), .begin(name: "g"), .arguments("{}"), .end(isComplete: true)]
    let open = found.countOfOpenCall
    writer.add(Array(found[..<open]), begun: 1, to: 0)
    writer.add(".", logprobs: nil, to: 0)
    writer.add(Array(found[open...]), begun: 1, to: 0)
    writer.end(0, AnswerContent(text: ".", calls: calls), logprobs: nil, reason: .stop)
    let added = try target.events().filter { $0["type"] == "response.output_item.added" }
    #expect(added.map { $0["output_index"] } == [0, 1, 2])
    #expect(added.map { $0["item"]?.object?["type"] } == ["function_call", "message", "function_call"])
  }

  @Test func textAndCallsAreItemsInOpenAIsOrder() throws {
    let target = try Target()
    write(writer(target, stream: true))
    let events = try target.events()
    let message = [
      "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
      "output_text.done", "content_part.done", "output_item.done",
    ]
    let call = [
      "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
    ]
    let kinds: [String] = ["created", "in_progress"] + message + call + call + ["completed"]
    let types: [String] = events.map { $0["type"]?.string ?? "" }
    #expect(types == kinds.map { "response." + $0 })
    #expect(events.map { $0["sequence_number"] } == events.indices.map { .integer($0) })
    let indices: [Int?] = events[2...].dropLast().map { $0["output_index"]?.integer }
    #expect(indices == [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    #expect(events[10]["delta"] == "{\"a\":1}" && events[11]["arguments"] == "{\"a\":1}")
    #expect(events[9]["item"]?.object?["id"] == events[10]["item_id"])
    #expect(events[9]["item"]?.object?["arguments"] == "" && events[9]["item"]?.object?["status"] == "in_progress")
    let response = try #require(events.last?["response"]?.object)
    #expect(response["status"] == "completed" && response["usage"]?.object?["total_tokens"] == 8)
    let output = response["output"]?.array?.compactMap(\.object) ?? []
    try #require(output.count == 3)
    #expect(output.map { $0["type"] } == ["message", "function_call", "function_call"])
    #expect(JSONValue.object(output[1]) == events[12]["item"])
    #expect(target.hasEnded && target.status == 200)
  }

  @Test func aWholeResponseHasTheSameItems() throws {
    let target = try Target()
    write(writer(target, stream: false))
    let object = try target.json()
    let response = try #require(object)
    let output = response["output"]?.array?.compactMap(\.object) ?? []
    try #require(output.count == 3)
    #expect(output.map { $0["type"] } == ["message", "function_call", "function_call"])
    #expect(output[0]["content"]?.array?.first?.object?["text"] == "Let me see.")
    #expect(output[2]["name"] == "g" && output[2]["call_id"]?.string?.hasPrefix("call_") == true)
  }

  /// The log-probabilities of tokens, as a chat's writer gives them.
  private func logprobs(_ tokens: String...) -> JSONValue {
    ["content": .array(tokens.map { ["token": .string($0), "logprob": -1, "bytes": [], "top_logprobs": []] })]
  }

  /// The tokens of a message's log-probabilities.
  private func tokens(_ item: JSONObject?) -> [String] {
    let part = item?["content"]?.array?.first?.object
    return (part?["logprobs"]?.array ?? []).compactMap { $0.object?["token"]?.string }
  }

  private func output(_ response: JSONObject?) -> [JSONObject] {
    response?["output"]?.array?.compactMap(\.object) ?? []
  }

  /// With log-probabilities, the tokens of a call are told without text. They make no message.
  @Test(arguments: [false, true]) func callsHaveNoEmptyMessagesBesideThem(stream: Bool) throws {
    let target = try Target()
    let writer = writer(target, stream: stream)
    writer.open(0)
    writer.add("", logprobs: logprobs("<tool_call>"), to: 0)
    writer.add("", logprobs: logprobs("{}", "</tool_call>"), to: 0)
    writer.add(parts, begun: 0, to: 0)
    writer.add("", logprobs: logprobs("<|im_end|>"), to: 0)
    writer.end(0, AnswerContent(text: "", calls: calls), logprobs: logprobs(), reason: .stop)
    writer.finish([FinishedChoice(answer: AnswerContent(), logprobs: nil, reason: .stop)], usage: usage)
    guard stream else {
      let response = try target.json()
      return #expect(output(response).map { $0["type"] } == ["function_call", "function_call"])
    }
    let events = try target.events()
    let added = events.filter { $0["type"] == "response.output_item.added" }
    #expect(added.map { $0["item"]?.object?["type"] } == ["function_call", "function_call"])
    #expect(added.map { $0["output_index"] } == [0, 1])
    #expect(!events.contains { $0["type"]?.string?.contains("text") == true })
    #expect(output(events.last?["response"]?.object).count == 2)
  }

  /// A message has the tokens of its text and of no call, those that were held back included.
  @Test(arguments: [false, true]) func aMessageHasTheTokensOfItsText(stream: Bool) throws {
    let target = try Target()
    let writer = writer(target, stream: stream)
    writer.open(0)
    writer.add("", logprobs: logprobs("<to"), to: 0)
    writer.add("<to be", logprobs: logprobs(" be"), to: 0)
    writer.add("", logprobs: logprobs("<tool_call>"), to: 0)
    writer.add(parts, begun: 0, to: 0)
    writer.add("x", logprobs: logprobs("x"), to: 0)
    writer.add("", logprobs: logprobs("half"), to: 0)
    writer.end(0, AnswerContent(text: "", calls: calls), logprobs: logprobs(), reason: .length)
    writer.finish([FinishedChoice(answer: AnswerContent(), logprobs: nil, reason: .length)], usage: usage)
    let response = try stream ? target.events().last?["response"]?.object : target.json()
    let items = output(response)
    #expect(items.map { $0["type"] } == ["message", "function_call", "function_call", "message"])
    #expect(tokens(items.first) == ["<to", " be"] && tokens(items.last) == ["x", "half"])
    guard stream else { return }
    let deltas = try target.events().filter { $0["type"] == "response.output_text.delta" }
    #expect(deltas.map { $0["delta"] } == ["<to be", "x", ""])
    #expect(deltas.map { $0["logprobs"]?.array?.count } == [2, 1, 1])
  }

  /// The arguments of a call come in parts, which together are those of the item. A call that is cut is an incomplete item.
  @Test(arguments: [(true, true), (true, false), (false, true), (false, false)]) func callsComeInParts(
    stream: Bool, isComplete: Bool
  ) throws {
    let target = try Target()
    let writer = writer(target, stream: stream)
    writer.open(0)
    writer.add([.begin(name: "f")], begun: 0, to: 0)
    for text in ["{\"a\":", "1", isComplete ? "}" : ""] { writer.add([.arguments(text)], begun: 1, to: 0) }
    writer.add([.end(isComplete: isComplete)], begun: 1, to: 0)
    let reason: FinishReason = isComplete ? .stop : .length
    writer.end(0, AnswerContent(), logprobs: nil, reason: reason)
    writer.finish([FinishedChoice(answer: AnswerContent(), logprobs: nil, reason: reason)], usage: usage)
    let status: JSONValue = isComplete ? "completed" : "incomplete"
    let arguments = isComplete ? "{\"a\":1}" : "{\"a\":1"
    let response = try stream ? target.events().last?["response"]?.object : target.json()
    let items = output(response)
    let item = try #require(items.first)
    #expect(response?["status"] == status && item["status"] == status)
    #expect(items.count == 1 && item["arguments"] == .string(arguments))
    #expect(ResponseItems.isCut(.object(item)) == !isComplete)
    guard stream else { return }
    let deltas = try target.events().filter { $0["type"] == "response.function_call_arguments.delta" }
    #expect(deltas.count == 3 && deltas.compactMap { $0["delta"]?.string }.joined() == arguments)
    #expect(deltas.allSatisfy { $0["item_id"] == item["id"] && $0["output_index"] == 0 })
  }

  @Test func aFailureWithinAStreamIsAnEvent() throws {
    let error = APIError.plain(status: 500, message: "broken")
    let target = try Target()
    let begun = writer(target, stream: true)
    begun.open(0)
    begun.fail(error)
    let last = try target.events().last
    let response = try #require(last?["response"]?.object)
    #expect(response["status"] == "failed" && response["error"] == ["code": "server_error", "message": "broken"])
    let other = try Target()
    writer(other, stream: true).fail(error)
    #expect(other.status == 500)
  }

  @Test func anEmptyAnswerHasAMessage() throws {
    let target = try Target()
    let empty = writer(target, stream: false)
    empty.open(0)
    empty.end(0, AnswerContent(), logprobs: nil, reason: .length)
    empty.finish([FinishedChoice(answer: AnswerContent(), logprobs: nil, reason: .length)], usage: usage)
    let object = try target.json()
    let response = try #require(object)
    #expect(response["status"] == "incomplete" && response["output"]?.array?.count == 1)
    #expect(response["incomplete_details"] == ["reason": "max_output_tokens"])
  }

  @Test func callsAfterOneAnotherAreOneMessage() {
    let items = [
      ResponseItems.message("user", [["type": "input_text", "text": "a"]]),
      ResponseItems.message("assistant", [["type": "output_text", "text": "b"]]),
      ResponseItems.call(id: nil, callID: "1", name: "f", arguments: "{}"),
      ResponseItems.call(id: nil, callID: "2", name: "g", arguments: "{}"),
      ["type": "function_call_output", "call_id": "1", "output": "x"],
      ["type": "function_call_output", "call_id": "2", "output": [["type": "input_text", "text": "y"]]],
    ]
    let messages = ResponseItems.messages(items).compactMap(\.object)
    #expect(messages.map { $0["role"] } == ["user", "assistant", "tool", "tool"])
    #expect(messages[1]["content"] == "b" && messages[1]["tool_calls"]?.array?.count == 2)
    #expect(messages[2]["content"] == "x" && messages[3]["content"] == "y" && messages[3]["tool_call_id"] == "2")
  }
}
