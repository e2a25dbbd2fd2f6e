public import Formats

/// A chat: its messages, and what else a chat template is rendered with.
public struct Conversation: Sendable {
  /// Objects with `role` and `content`, as in OpenAI's API. Arguments of tool calls are objects or strings of JSON; they
  /// are rendered in the form that the template reads.
  public var messages: [JSONValue]
  /// Tool definitions; empty for none.
  public var tools: [JSONValue]
  /// Whether the prompt ends with the beginning of the assistant's turn.
  public var addsGenerationPrompt: Bool
  /// Whether the last message stays open, so that the answer continues it.
  public var continuesFinalMessage: Bool
  /// Further variables of the template (`chat_template_kwargs`); they cannot replace those above.
  public var variables: JSONObject

  /// - Parameters: as the properties
  public init(
    messages: [JSONValue], tools: [JSONValue] = [], addsGenerationPrompt: Bool = true,
    continuesFinalMessage: Bool = false, variables: JSONObject = JSONObject(keepingFirst: [])
  ) {
    self.messages = messages
    self.tools = tools
    self.addsGenerationPrompt = addsGenerationPrompt
    self.continuesFinalMessage = continuesFinalMessage
    self.variables = variables
  }
}

/// Why a chat could not be rendered, in one line.
public enum ChatFormatError: Error, Equatable, Sendable {
  /// The template refused the chat: the message of its `raise_exception`.
  case refused(String)
  /// The template failed, or the rendering cannot be used.
  case failed(String)

  /// The reason, for a person.
  public var message: String {
    switch self {
    case .refused(let message), .failed(let message): message
    }
  }
}
