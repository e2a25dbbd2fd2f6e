import Testing

@testable import Formats
@testable import Serve

@Suite struct ResponseItemsTests {
  /// So many calls that copying them for each further one would take minutes.
  @Test(.timeLimit(.minutes(5))) func manyCallsAreOneMessage() {
    let count = 300_000
    let call = ResponseItems.call(id: "fc_1", callID: "1", name: "f", arguments: "{}")
    let messages = ResponseItems.messages([JSONValue](repeating: call, count: count))
    #expect(messages.count == 1 && messages[0].object?["tool_calls"]?.array?.count == count)
  }

  /// Calls belong to the text of the assistant before them, and to no later one.
  @Test func callsAreOneMessageWithTheTextBeforeThem() {
    func text(_ text: String) -> JSONValue {
      ResponseItems.message("assistant", [["type": "output_text", "text": .string(text)]])
    }
    func call(_ name: String) -> JSONValue { ResponseItems.call(id: nil, callID: name, name: name, arguments: "{}") }
    let output: JSONValue = ["type": "function_call_output", "call_id": "a", "output": "x"]
    let messages = ResponseItems.messages([call("a"), call("b"), text("t"), call("c"), output, call("d"), text("u")])
      .compactMap(\.object)
    let calls = messages.map { message in
      (message["tool_calls"]?.array ?? []).compactMap { $0.object?["id"]?.string }
    }
    #expect(calls == [["a", "b"], ["c"], [], ["d"], []])
    #expect(messages.map { $0["content"] } == [.null, "t", "x", .null, "u"])
  }
}
