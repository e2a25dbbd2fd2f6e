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

  @Test func theDefinitionsStandInTheSystemMessage() {
    let chat = Conversation(
      messages: [["role": "system", "content": "Be brief."], ["role": "user", "content": "Hi"]], tools: [Self.tool])
    let hermes = HermesChat(chat, showsCalls: false)
    #expect(!hermes.hasAddedMessage && hermes.chat.tools.isEmpty && hermes.chat.messages.count == 2)
    let system = texts(hermes.chat)[0]
    #expect(system.hasPrefix("system: Be brief.\n\n# Tools") && system.contains(Self.tool.spacedJSON))
    #expect(texts(hermes.chat)[1] == "user: Hi")
  }

  @Test func aSystemMessageIsAdded() {
    let chat = Conversation(messages: [["role": "user", "content": "Hi"]], tools: [Self.tool])
    let hermes = HermesChat(chat, showsCalls: false)
    #expect(hermes.hasAddedMessage && hermes.chat.messages.count == 2)
    #expect(texts(hermes.chat)[0].hasPrefix("system: # Tools"))
  }

  @Test func callsAndResultsBecomeText() {
    let result: JSONValue = ["role": "tool", "tool_call_id": "1", "content": "3"]
    let chat = Conversation(messages: [["role": "user", "content": "Hi"], Self.call, result], tools: [Self.tool])
    let shown = texts(HermesChat(chat, showsCalls: false).chat)
    #expect(shown[2] == "assistant: Well.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>")
    #expect(shown[3] == "user: <tool_response>\n3\n</tool_response>")
    #expect(HermesChat(chat, showsCalls: true).chat.messages[2] == Self.call)
  }
}
