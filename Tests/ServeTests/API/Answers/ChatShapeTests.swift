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

  /// A streamed call has the index by which clients put its pieces together.
  @Test func streamedCallsAreNumbered() {
    let delta = shape.calls(0, [call, call], first: 3)?.object?["delta"]?.object
    #expect(delta?["tool_calls"]?.array?.map { $0.object?["index"]?.integer } == [3, 4])
    let end = shape.ending(1, AnswerContent(calls: [call]), logprobs: .null, reason: .stop).object
    #expect(end?["delta"] == [:] && end?["finish_reason"] == "tool_calls")
    #expect(ChatShape().makeParser() == nil && CompletionShape().calls(0, [call], first: 0) == nil)
  }
}
