import Formats

/// A chat with tools for a template that does not show them: the definitions stand in the system message, in the words of
/// the Hermes models, which many others have learnt too.
///
/// https://github.com/NousResearch/Hermes-Function-Calling
struct HermesChat {
  /// The chat without tools.
  private(set) var chat: Conversation
  /// Whether the chat had no system message, so that the first one is new.
  private(set) var hasAddedMessage = false

  /// - Parameter showsCalls: the template shows past calls and their results, so they stay as they are
  init(_ chat: Conversation, showsCalls: Bool) {
    self.chat = chat
    self.chat.tools = []
    if !showsCalls { self.chat.messages = chat.messages.map(Self.withCallsAsText) }
    let instructions = Self.instructions(chat.tools)
    if let first = chat.messages.first?.object, ["system", "developer"].contains(first["role"]?.string) {
      let text = Self.text(first["content"])
      self.chat.messages[0] = Self.message(
        first["role"]?.string ?? "system", text.isEmpty ? instructions : text + "\n\n" + instructions)
    } else {
      hasAddedMessage = true
      self.chat.messages.insert(Self.message("system", instructions), at: 0)
    }
  }

  private static func instructions(_ tools: [JSONValue]) -> String {
    """
    # Tools

    You may call one or more functions to assist with the user query.

    You are provided with function signatures within <tools></tools> XML tags:
    <tools>
    \(tools.map(\.spacedJSON).joined(separator: "\n"))
    </tools>

    For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
    <tool_call>
    {"name": <function-name>, "arguments": <args-json-object>}
    </tool_call>
    """
  }

  /// Calls become text of the assistant, and their results a message of the user.
  private static func withCallsAsText(_ message: JSONValue) -> JSONValue {
    guard let object = message.object else { return message }
    let content = text(object["content"])
    if object["role"] == "tool" { return self.message("user", "<tool_response>\n\(content)\n</tool_response>") }
    let calls = (object["tool_calls"]?.array ?? []).compactMap { $0.object?["function"]?.object }
    if calls.isEmpty { return message }
    let texts = calls.map { call in
      let name = (call["name"] ?? .null).spacedJSON
      let arguments = call["arguments"]?.string ?? (call["arguments"] ?? [:]).spacedJSON
      return "<tool_call>\n{\"name\": \(name), \"arguments\": \(arguments)}\n</tool_call>"
    }
    return self.message("assistant", ((content.isEmpty ? [] : [content]) + texts).joined(separator: "\n"))
  }

  private static func message(_ role: String, _ text: String) -> JSONValue {
    ["role": .string(role), "content": .string(text)]
  }

  /// The text of a `content`.
  private static func text(_ content: JSONValue?) -> String {
    switch content {
    case .string(let text): text
    case .array(let parts): ChatMessage.text(ofParts: parts)
    default: ""
    }
  }
}
