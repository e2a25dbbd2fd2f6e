internal import Template

/// Messages and what else a chat template is rendered with.
public struct Conversation: Sendable {
  /// Objects with `role` and `content`, as OpenAI writes them; the arguments of tool calls as objects.
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

/// How a model's chats become prompts: its templates, what they can take, and what ends a turn.
public struct ChatFormat: Sendable {
  private struct Entry: Sendable {
    var template: ChatTemplateEngine
    /// Whether `content` may be a list of parts, and whether it may be a string.
    var takesParts = false
    var takesText = true
    var knowsDeveloper: Bool
  }

  private let plain: Entry
  /// The one for chats with tools, where a model has two.
  private let withTools: Entry?
  let tokenizer: Tokenizer
  private let specialTokens: [(key: String, value: JSONValue)]
  /// The tokens that the template puts after an assistant's message: they end an answer as the model's own do.
  public private(set) var endTokens: Set<Int32> = []
  /// How the model writes calls of tools, as its template shows past ones.
  public let toolCallForm: ToolCallForm

  /// - Parameter source: a template in the place of the model's own
  /// - Throws: `ModelError` where there is no template, or one that is not understood
  public init(_ tokenizer: Tokenizer, template source: String? = nil, name: String) throws(ModelError) {
    guard let text = source ?? tokenizer.chatTemplate else {
      throw ModelError(name, reason: "has no chat template; give one with --chat-template")
    }
    self.tokenizer = tokenizer
    specialTokens = [("bos_token", tokenizer.bosToken), ("eos_token", tokenizer.eosToken)].compactMap { name, id in
      id.flatMap(tokenizer.tokenText).map { (key: name, value: .string($0)) }
    }
    func entry(_ text: String) throws(ModelError) -> Entry {
      Entry(
        template: try ChatTemplateEngine(text, name: name), knowsDeveloper: text.contains("developer"))
    }
    var plain = try entry(text)
    var withTools: Entry?
    if source == nil, let text = tokenizer.chatTemplates["tool_use"] { withTools = try entry(text) }
    Self.probeContent(&plain, specialTokens)
    if var entry = withTools {
      Self.probeContent(&entry, specialTokens)
      withTools = entry
    }
    toolCallForm = (source ?? tokenizer.chatTemplates["tool_use"] ?? text).contains("<tool_call>") ? .tagged : .bare
    self.plain = plain
    self.withTools = withTools
    endTokens = turnEnds()
  }

  /// The prompt's text.
  public func render(_ chat: Conversation) throws(ChatFormatError) -> String {
    let entry = chat.tools.isEmpty ? plain : withTools ?? plain
    let messages = chat.messages.map { Self.adapt($0, to: entry) }
    let text = try Self.render(entry, specialTokens, chat, messages)
    guard chat.continuesFinalMessage else { return text }
    return try Self.cut(text, afterContentOf: messages.last)
  }

  /// The prompt's tokens. The template writes the beginning of sequence itself, so none is added.
  public func tokens(_ chat: Conversation, addingBOS: Bool = false) throws(ChatFormatError) -> [Int32] {
    tokenizer.encode(try render(chat), parsingSpecialTokens: true, addingBOS: addingBOS)
  }

  private static func render(
    _ entry: Entry, _ specialTokens: [(key: String, value: JSONValue)], _ chat: Conversation, _ messages: [JSONValue]
  ) throws(ChatFormatError) -> String {
    try entry.template.render(variables(specialTokens, chat, messages))
  }

  /// The whole chat, and which bytes of it each assistant message wrote.
  func rendering(_ chat: Conversation) throws(ChatFormatError) -> Rendering {
    let entry = chat.tools.isEmpty ? plain : withTools ?? plain
    let messages = chat.messages.map { Self.adapt($0, to: entry) }
    return try entry.template.rendering(Self.variables(specialTokens, chat, messages))
  }

  private static func variables(
    _ specialTokens: [(key: String, value: JSONValue)], _ chat: Conversation, _ messages: [JSONValue]
  ) -> JSONObject {
    var variables: [(key: String, value: JSONValue)] = [
      ("messages", .array(messages)), ("tools", chat.tools.isEmpty ? .null : .array(chat.tools)),
      ("documents", .null), ("add_generation_prompt", .bool(chat.addsGenerationPrompt && !chat.continuesFinalMessage)),
    ]
    // Of equal keys the first stays.
    variables += chat.variables.pairs
    variables += specialTokens
    return JSONObject(keepingFirst: variables)
  }

  // MARK: what a template takes

  private static let marker = "GraftMarker7"

  /// Templates differ in what content they can read; they are asked by rendering a message of each kind.
  private static func probeContent(_ entry: inout Entry, _ specialTokens: [(key: String, value: JSONValue)]) {
    func shows(_ content: JSONValue) -> Bool {
      let message: JSONValue = ["role": "user", "content": content]
      let text = try? render(entry, specialTokens, Conversation(messages: [message]), [message])
      guard let text, text.contains(marker) else { return false }
      // Some print a list as it is.
      return !text.contains("'text'") && !text.contains("\"text\"")
    }
    entry.takesText = shows(.string(marker))
    entry.takesParts = shows([["type": "text", "text": .string(marker)]])
    if !entry.takesText, !entry.takesParts { entry.takesText = true }
  }

  private static func adapt(_ message: JSONValue, to entry: Entry) -> JSONValue {
    guard let object = message.object else { return message }
    let pairs = object.pairs.map { key, value -> (key: String, value: JSONValue) in
      switch (key, value) {
      case ("role", "developer") where !entry.knowsDeveloper: (key, "system")
      case ("content", .array(let parts)) where !entry.takesParts:
        (key, .string(parts.compactMap { $0.object?["text"]?.string }.joined(separator: "\n")))
      case ("content", .string) where !entry.takesText: (key, [["type": "text", "text": value]])
      default: (key, value)
      }
    }
    return .object(JSONObject(keepingFirst: pairs))
  }

  /// Everything up to the end of the last message's text.
  private static func cut(_ text: String, afterContentOf message: JSONValue?) throws(ChatFormatError) -> String {
    let content = message?.object?["content"]
    let last = content?.string ?? content?.array?.last?.object?["text"]?.string ?? ""
    let words = last.drop(while: \.isWhitespace)
    var end = words.endIndex
    while end > words.startIndex, words[words.index(before: end)].isWhitespace { end = words.index(before: end) }
    let needle = Array(words[..<end].utf8)
    let bytes = Array(text.utf8)
    guard !needle.isEmpty, needle.count <= bytes.count,
      let start = (0...(bytes.count - needle.count)).last(where: { bytes[$0...].starts(with: needle) })
    else { throw .failed("the last message cannot be continued: the chat template does not show its text") }
    return String(decoding: bytes[..<(start + needle.count)], as: UTF8.self)
  }

  /// The first special token behind an assistant's message, if only space stands before it.
  private func turnEnds() -> Set<Int32> {
    let messages: [JSONValue] = [
      ["role": "user", "content": "Hi"], ["role": "assistant", "content": .string(Self.marker)],
    ]
    let chat = Conversation(messages: messages, addsGenerationPrompt: false)
    guard let text = try? render(chat) else { return [] }
    let bytes = Array(text.utf8)
    let needle = Array(Self.marker.utf8)
    guard bytes.count >= needle.count,
      let start = (0...(bytes.count - needle.count)).last(where: { bytes[$0...].starts(with: needle) })
    else { return [] }
    let tail = String(decoding: bytes[(start + needle.count)...], as: UTF8.self)
    for token in tokenizer.encode(tail, parsingSpecialTokens: true, addingBOS: false) {
      if tokenizer.isSpecial(token) { return [token] }
      let isSpace = tokenizer.tokenBytes(token)?.allSatisfy { $0 == 0x20 || (0x09...0x0D).contains($0) } ?? false
      if !isSpace { return [] }
    }
    return []
  }
}
