public import Formats

/// Messages and what else a chat template is rendered with.
public struct Conversation: Sendable {
  /// Objects with `role` and `content`, as OpenAI writes them; the arguments of tool calls as objects or as strings of
  /// JSON, whichever the template wants to read.
  public var messages: [JSONValue]
  /// Tool definitions; empty for none.
  public var tools: [JSONValue]
  /// Ends the prompt with the beginning of the assistant's turn.
  public var addsGenerationPrompt: Bool
  /// Leaves the last message open, for the answer to go on with it.
  public var continuesFinalMessage: Bool
  /// Further variables (`chat_template_kwargs`); they cannot replace those above.
  public var variables: JSONObject

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
  /// The template's own words, from `raise_exception`.
  case refused(String)
  case failed(String)

  public var message: String {
    switch self {
    case .refused(let message), .failed(let message): message
    }
  }
}
