import Formats
import Testing

@testable import Model

/// Tools for templates that do not show them.
@Suite struct HermesChatTests {
  private static let tool: JSONValue = [
    "type": "function", "function": ["name": "f", "parameters": ["type": "object"]],
  ]
  private static let call: JSONValue = [
    "role": "assistant", "content": "Well.",
    "tool_calls": [["id": "1", "type": "function", "function": ["name": "f", "arguments": "{\"a\": 1}"]]],
  ]

  private func texts(_ chat: Conversation) -> [String] {
    chat.messages.map { ($0.object?["role"]?.string ?? "") + ": " + ($0.object?["content"]?.string ?? "") }
  }

  private static let result: JSONValue = ["role": "tool", "tool_call_id": "1", "content": "3"]
  private static let user: JSONValue = ["role": "user", "content": "Hi"]
  private static let system: JSONValue = ["role": "system", "content": "Be brief."]
  private static let callText =
    "assistant: Well.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>"
  private static let resultText = "user: <tool_response>\n3\n</tool_response>"

  private func hermes(
    _ messages: [JSONValue], tools: [JSONValue] = [Self.tool], _ abilities: TemplateAbilities = TemplateAbilities()
  ) throws -> HermesChat {
    try #require(HermesChat(Conversation(messages: messages, tools: tools), for: abilities))
  }

  @Test func theDefinitionsStandInTheSystemMessage() throws {
    let hermes = try hermes([Self.system, Self.user])
    #expect(hermes.indices == [0, 1] && hermes.chat.tools.isEmpty)
    let system = texts(hermes.chat)[0]
    #expect(system.hasPrefix("system: Be brief.\n\n# Tools") && system.contains(Self.tool.spacedJSON))
    #expect(texts(hermes.chat)[1] == "user: Hi")
    #expect(hermes.warnings[0].contains("in the system message") && !hermes.warnings[0].contains("earlier calls"))
  }

  @Test func aSystemMessageIsAdded() throws {
    let hermes = try hermes([Self.user])
    #expect(hermes.indices == [nil, 0])
    #expect(texts(hermes.chat)[0].hasPrefix("system: # Tools"))
  }

  @Test func withoutASystemMessageTheDefinitionsStandBeforeTheUsersText() throws {
    let abilities = TemplateAbilities(showsSystem: false)
    let plain = try hermes([Self.user], abilities)
    #expect(plain.indices == [0] && plain.warnings[0].contains("in the first user message"))
    #expect(texts(plain.chat)[0].hasPrefix("user: # Tools") && texts(plain.chat)[0].hasSuffix("</tool_call>\n\nHi"))
    let briefed = try hermes([Self.system, ["role": "assistant", "content": "Yes?"], Self.user], abilities)
    #expect(briefed.indices == [1, 2] && texts(briefed.chat)[1].hasPrefix("user: Be brief.\n\n# Tools"))
    let silent = try hermes([["role": "assistant", "content": "Yes?"]], abilities)
    #expect(silent.indices == [nil, 0] && texts(silent.chat)[0].hasPrefix("user: # Tools"))
  }

  @Test func callsAndResultsBecomeText() throws {
    let messages = [Self.user, Self.call, Self.result]
    for tools in [[Self.tool], []] {
      let hermes = try hermes(messages, tools: tools)
      #expect(texts(hermes.chat).suffix(2) == [Self.callText, Self.resultText])
      #expect(hermes.warnings.count == 1 && hermes.warnings[0].contains("calls"))
    }
    let showing = TemplateAbilities(showsCalls: true, showsResults: true)
    #expect(texts(try hermes(messages, showing).chat).suffix(2) == [Self.callText, Self.resultText])
    #expect(HermesChat(Conversation(messages: messages), for: showing) == nil)
    let calling = try hermes(messages, tools: [], TemplateAbilities(showsCalls: true))
    #expect(calling.chat.messages[1] == Self.call && texts(calling.chat)[2] == Self.resultText)
    // A template that shows tools: calls in the form that it tells the model to write, results in its own.
    let chat = Conversation(messages: messages, tools: [Self.tool])
    let bare = HermesChat(chat, for: TemplateAbilities(showsTools: true, showsResults: true), .bare)
    #expect(bare?.chat.tools == [Self.tool] && bare?.chat.messages[2] == Self.result)
    #expect(bare.map { texts($0.chat)[1] } == "assistant: Well.\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}")
  }

  /// A loop that ends with a call, or that its user interrupts, leaves a question behind a result.
  @Test func anAnswerStandsBetweenAResultAndAQuestion() throws {
    var abilities = TemplateAbilities(showsTools: true, showsCalls: true, showsResults: true, takesNeighbours: false)
    let messages = [Self.user, Self.call, Self.result, Self.result, Self.user, Self.call, Self.result, Self.user]
    #expect(HermesChat(Conversation(messages: messages, tools: [Self.tool]), for: abilities) == nil)
    abilities.takesQuestionsBehindResults = false
    let answered = try hermes(messages, abilities)
    #expect(answered.indices == [0, 1, 2, 3, nil, 4, 5, 6, nil, 7] && answered.chat.tools == [Self.tool])
    #expect(answered.chat.messages[..<4] == messages[..<4] && texts(answered.chat)[4] == "assistant: OK")
    #expect(answered.warnings.count == 1 && answered.warnings[0].contains("'OK'"))
    #expect(HermesChat(Conversation(messages: Array(messages[..<4])), for: abilities) == nil)
    // Results that are the user's texts are joined with the question.
    abilities.showsResults = false
    let joined = try hermes(messages, abilities)
    #expect(joined.indices == [0, 1, 4, 5, 7])
    // Calls that are texts do not need an answer less.
    abilities.showsCalls = false
    abilities.showsResults = true
    #expect(try hermes(messages, abilities).warnings.count == 2)
  }

  @Test func neighboursOfOneRoleAreJoined() throws {
    let messages = [Self.user, Self.call, Self.result, Self.result, Self.user, Self.call]
    #expect(try hermes(messages, tools: []).indices == [0, 1, 2, 3, 4, 5])
    let joined = try hermes(messages, tools: [], TemplateAbilities(takesNeighbours: false))
    #expect(joined.indices == [0, 1, 4, 5])
    #expect(texts(joined.chat)[2] == Self.resultText + "\n\n" + Self.resultText.dropFirst(6) + "\n\nHi")
  }
}
