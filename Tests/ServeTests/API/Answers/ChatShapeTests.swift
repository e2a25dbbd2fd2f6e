import Formats
import Model
import Testing

@testable import Serve

@Suite struct ChatShapeTests {
  private let shape = ChatShape(tools: (.tagged, ["f"]))
  private let call = ToolCall(name: "f", arguments: "{\"a\":1}")

  @Test func callsTakeThePlaceOfContent() {
    let answer = AnswerContent(text: "", calls: [call])
    let choice = shape.choice(2, answer, logprobs: .null, reason: .stop).object
    #expect(choice?["finish_reason"] == "tool_calls" && choice?["index"] == 2)
    let message = choice?["message"]?.object
    #expect(message?["content"] == .null && message?["role"] == "assistant")
    let written = message?["tool_calls"]?.array?.first?.object
    #expect(written?["id"]?.string?.hasPrefix("call_") == true && written?["type"] == "function")
    #expect(written?["function"] == ["name": "f", "arguments": "{\"a\":1}"])
    #expect(
      shape.choice(0, AnswerContent(text: "x", calls: [call]), logprobs: .null, reason: .length)
        .object?["finish_reason"] == "length")
    #expect(
      shape.choice(0, AnswerContent(text: "x"), logprobs: .null, reason: .stop).object?["message"]
        == ["role": "assistant", "content": "x", "refusal": .null])
  }

  /// The entries of a chunk's calls.
  private func entries(_ parts: [ToolCallPart], begun: Int) -> [JSONObject] {
    let delta = shape.calls(0, parts, begun: begun)?.object?["delta"]?.object
    return delta?["tool_calls"]?.array?.compactMap(\.object) ?? []
  }

  /// Each chunk of a call has the index by which clients put its parts together; the first has its id and name.
  @Test func streamedCallsAreNumbered() throws {
    let whole: [ToolCallPart] = [.begin(name: "f"), .arguments("{}"), .end(isComplete: true)]
    let two = entries(whole + whole, begun: 3)
    #expect(two.map { $0["index"] } == [3, 4])
    #expect(two.allSatisfy { $0["function"] == ["name": "f", "arguments": "{}"] })
    #expect(Set(two.compactMap { $0["id"]?.string }).count == 2 && two.allSatisfy { $0["type"] == "function" })
    let next = entries(
      [.arguments("1"), .arguments("}"), .end(isComplete: true), .begin(name: "f")], begun: 1)
    try #require(next.count == 2)
    #expect(next[0].keys == ["index", "function"] && next[0]["index"] == 0)
    #expect(next[0]["function"] == ["arguments": "1}"])
    #expect(next[1].keys == ["index", "id", "type", "function"] && next[1]["index"] == 1)
    #expect(next[1]["function"] == ["name": "f", "arguments": ""])
    #expect(shape.calls(0, [.end(isComplete: true)], begun: 1) == nil)
    let end = shape.ending(1, AnswerContent(calls: [call]), logprobs: .null, reason: .stop).object
    #expect(end?["delta"] == [:] && end?["finish_reason"] == "tool_calls")
    #expect(ChatShape().makeParser(streams: true) == nil && CompletionShape().calls(0, whole, begun: 0) == nil)
  }

  /// Calls are told while they are being written only in streams, and only where they are certain.
  @Test(arguments: [(true, true), (true, false), (false, true)]) func callsAreToldEarlyInStreams(
    streams: Bool, certain: Bool
  ) {
    let shape = ChatShape(tools: (.tagged, ["f"]), callsAreCertain: certain)
    var parser = shape.makeParser(streams: streams)
    let told = parser?.push(#"<tool_call>{"name": "f", "arguments": {"a": 1"#).parts ?? []
    #expect(told.isEmpty == !(streams && certain))
  }

  /// A call that the end of the answer has cut is none of its calls.
  @Test func cutCallsDoNotCount() {
    var answer = AnswerContent()
    for part in [ToolCallPart.begin(name: "f"), .arguments("{"), .arguments("}"), .end(isComplete: true)] {
      answer.add(part)
    }
    #expect(answer.calls == [ToolCall(name: "f", arguments: "{}")] && answer.begunCalls == 1)
    answer.add(.begin(name: "g"))
    #expect(answer.begunCalls == 2)
    answer.add(.end(isComplete: false))
    #expect(answer.calls.count == 1)
  }
}
