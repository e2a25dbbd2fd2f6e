import Formats
import TestSupport
import Testing

@testable import Model

/// Chats so large that work which grows with the square of their size would take minutes.
@Suite(.timeLimit(.minutes(5))) struct LargeChatTests {
  private func format(_ template: String) throws -> ChatFormat {
    try ChatFormat(try TinyTokenizer.with(specialTokens: []), template: template, name: "test")
  }

  @Test func resultsAreFoundByTheirCalls() throws {
    let count = 30_000
    func call(_ id: Int) -> JSONValue { ["id": .string("c\(id)"), "function": ["name": "f"]] }
    func result(_ id: String) -> JSONValue { ["role": "tool", "tool_call_id": .string(id), "content": "1"] }
    let calls: JSONValue = ["role": "assistant", "content": "", "tool_calls": .array((0..<count).map(call))]
    // Results of no call, and those of the calls in the opposite order.
    let results = (0..<count).flatMap { [result("x\($0)"), result("c\(count - 1 - $0)")] }
    let single = SingleCalls([calls] + results)
    #expect(single.messages.count == 3 * count && single.indices.count == 3 * count)
    for number in [0, 1, count - 1] {
      #expect(single.messages[2 * number].object?["tool_calls"] == [call(number)])
      #expect(single.messages[2 * number + 1] == result("c\(number)"))
      #expect(single.indices[2 * number] == 0 && single.indices[2 * number + 1] == 2 * (count - number))
    }
    #expect(single.messages.dropFirst(2 * count).map { $0 } == (0..<count).map { result("x\($0)") })
  }

  /// 120 MB of text are copied a few times, not for each of its messages.
  @Test func neighboursAreJoinedAtOnce() throws {
    let count = 60_000
    let text = String(repeating: "a", count: 2000)
    let messages = [JSONValue](repeating: ["role": "user", "content": .string(text)], count: count)
    let hermes = try #require(
      HermesChat(
        Conversation(messages: messages, tools: [RealTemplate.tool]), for: TemplateAbilities(takesNeighbours: false)))
    #expect(hermes.indices == [nil, count - 1])
    #expect(hermes.chat.messages[1].object?["content"]?.string?.utf8.count == 2002 * count - 2)
  }

  @Test func answersAreAddedAtOnce() throws {
    let count = 200_000
    let pair: [JSONValue] = [["role": "tool", "tool_call_id": "1", "content": "1"], RealTemplate.user("Hi")]
    let abilities = TemplateAbilities(
      showsTools: true, showsCalls: true, showsResults: true, takesQuestionsBehindResults: false)
    let chat = Conversation(messages: [[JSONValue]](repeating: pair, count: count).flatMap { $0 })
    let hermes = try #require(HermesChat(chat, for: abilities))
    #expect(hermes.chat.messages.count == 3 * count)
    #expect(hermes.indices[..<6] == [0, nil, 1, 2, nil, 3] && hermes.indices.last == 2 * count - 1)
  }

  /// Whether all names of calls are shown is found in one reading of the text.
  @Test func namesAreFoundInTheirOrder() throws {
    let format = try format(
      "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls %}{{ c.function.name }}:"
        + "{{ c.function.arguments | tojson }};{% endfor %}{% endfor %}{{ tools }}")
    let argument: JSONValue = .string(String(repeating: "b", count: 150))
    let calls = (0..<16_000).map {
      ChatMessage.toolCall(id: nil, name: "f\(1_000_000 + $0)", arguments: ["a": argument])
    }
    let message: JSONValue = ["role": "assistant", "content": "", "tool_calls": .array(calls)]
    let chat = Conversation(messages: [RealTemplate.user("Hi"), message, RealTemplate.result("Oslo")])
    #expect(try format.prompt(chat, limit: 1).warnings == [])
  }

  /// A text that the template does not show, and that is like what it shows almost to its end, is looked for in one reading.
  @Test func aTextThatIsNotShownIsSoonKnownAsThat() throws {
    let format = try format("{% for m in messages %}{{ m.content.split('</think>')[-1] }};{% endfor %}")
    let text = String(repeating: "a", count: 400_000)
    let chat = Conversation(
      messages: [RealTemplate.user(text + text), ["role": "assistant", "content": .string(text + "</think>b")]],
      addsGenerationPrompt: false, continuesFinalMessage: true)
    #expect(throws: ChatFormatError.self) { try format.render(chat) }
  }

  @Test func theLastTextIsContinuedBehindItsLastOccurrence() throws {
    let format = try format("{% for m in messages %}{{ m.content }};{% endfor %}")
    let chat = Conversation(
      messages: [RealTemplate.user("abab"), ["role": "assistant", "content": " ab "]], addsGenerationPrompt: false,
      continuesFinalMessage: true)
    #expect(try format.render(chat) == "abab; ab")
  }
}
