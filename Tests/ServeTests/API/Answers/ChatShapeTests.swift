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
    #expect(ChatShape().makeParser() == nil && CompletionShape().calls(0, whole, begun: 0) == nil)
  }

  /// Calls are told while they are being written only where they are certain.
  @Test(arguments: [true, false]) func certainCallsAreToldEarly(certain: Bool) {
    let shape = ChatShape(tools: (.tagged, ["f"]), callsAreCertain: certain)
    var parser = shape.makeParser()
    let told = parser?.push(#"<tool_call>{"name": "f", "arguments": {"a": 1"#).parts ?? []
    #expect(told.isEmpty == !certain)
  }

  /// A whole answer has what a stream's deltas add up to, at whatever byte the limit on tokens cuts it.
  @Test func aCutAnswerIsTheSumOfItsDeltas() throws {
    let shape = ChatShape(tools: (.tagged, ["f", "g"]), callsAreCertain: true)
    let calls = ["f", "g"].map { #"<tool_call>{"name": "\#($0)", "arguments": {"a": [1, "b"]}}</tool_call>"# }
    let whole = "Look: " + calls.joined(separator: "\n")
    var cut: Set<String> = []
    for length in 0...whole.utf8.count {
      var parser = try #require(shape.makeParser())
      var (answer, deltas) = (AnswerContent(), [ToolCall]())
      func add(_ found: (text: String, parts: [ToolCallPart])) {
        let list = shape.calls(0, found.parts, begun: answer.calls.count)?.object?["delta"]?.object?["tool_calls"]
        for entry in list?.array?.compactMap(\.object) ?? [] {
          let function = entry["function"]?.object
          if let name = function?["name"]?.string { deltas.append(ToolCall(name: name, arguments: "")) }
          #expect(entry["index"] == .integer(deltas.count - 1))
          deltas[deltas.count - 1].arguments += function?["arguments"]?.string ?? ""
        }
        answer.text += found.text
        for part in found.parts { answer.add(part) }
      }
      for letter in whole.prefix(length) { add(parser.push(String(letter))) }
      add(parser.finish())
      let choice = shape.choice(0, answer, logprobs: .null, reason: .length).object
      #expect(choice?["finish_reason"] == "length")
      let message = choice?["message"]?.object
      let functions = message?["tool_calls"]?.array?.compactMap { $0.object?["function"] } ?? []
      #expect(functions == deltas.map { ["name": .string($0.name), "arguments": .string($0.arguments)] })
      #expect(message?["content"] == .string(answer.text))
      if let last = deltas.last, !last.arguments.hasSuffix("}") { cut.insert(last.name + last.arguments) }
    }
    #expect(cut.contains(#"f{"a":[1,"b""#) && cut.contains(#"g{"a":[1,"#))
  }
}
