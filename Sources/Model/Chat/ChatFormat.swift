public import Tokenization
public import Formats
internal import Template

/// Renders a model's chats as prompts, by the model's chat templates, and knows which tokens end a turn.
public struct ChatFormat: Sendable {
  /// The template for all chats, or for those without tools.
  let plain: ProbedTemplate
  /// The template for chats with tools, if the model has one of its own for them.
  private let withTools: ProbedTemplate?
  let tokenizer: Tokenizer
  /// The tokens that the template puts after an assistant's message. They end an answer as the model's end tokens do.
  public private(set) var endTokens: Set<Int32> = []
  /// How the model writes tool calls, judged by its template.
  public private(set) var toolCallForm = ToolCallForm.tagged
  /// The special tokens that are written around calls.
  public private(set) var callTokens: Set<Int32> = []
  /// Whether the template writes calls in a form that cannot be read.
  private var writesOtherCalls = false

  /// - Parameters:
  ///   - source: a template to use instead of the model's own
  ///   - name: what errors name
  /// - Throws: `ModelError`: `noChatTemplate`, or one that names what the template has that is not supported
  public init(_ tokenizer: Tokenizer, template source: String? = nil, name: String) throws(ModelError) {
    guard let text = source ?? tokenizer.chatTemplate else {
      throw .noChatTemplate(name)
    }
    self.tokenizer = tokenizer
    let specialTokens = [("bos_token", tokenizer.bosToken), ("eos_token", tokenizer.eosToken)].compactMap { name, id in
      id.flatMap(tokenizer.tokenText).map { (key: name, value: JSONValue.string($0)) }
    }
    plain = try ProbedTemplate(text, specialTokens: specialTokens, name: name)
    let toolText = source == nil ? tokenizer.chatTemplates["tool_use"] : nil
    if let toolText {
      withTools = try ProbedTemplate(toolText, specialTokens: specialTokens, name: name)
    } else {
      withTools = nil
    }
    endTokens = turnEnds()
    readCallForm(mentionsTag: (toolText ?? text).contains("<tool_call>"))
  }

  /// Reads in the template how calls are written. What it is told to write where the template shows no tools: Hermes' form.
  private mutating func readCallForm(mentionsTag: Bool) {
    let template = withTools ?? plain
    guard template.abilities.showsTools else { return }
    let marks = SpecialMarks(tokenizer, ends: endTokens)
    if let form = template.callSamples?.form(cut: marks.pieces) {
      toolCallForm = form
      callTokens = marks.tokens(of: form)
    } else {
      toolCallForm = mentionsTag ? .tagged : .bare
      writesOtherCalls = template.abilities.showsCalls
    }
  }

  private func template(for chat: Conversation) -> ProbedTemplate { chat.tools.isEmpty ? plain : withTools ?? plain }

  /// The chat in another form, if the template does not show it as it is.
  private func hermes(_ chat: Conversation) -> HermesChat? {
    HermesChat(chat, for: template(for: chat).abilities, toolCallForm)
  }

  /// The whole chat as text, and which bytes of it came from which message or tool.
  func rendering(_ chat: Conversation) throws(ChatFormatError) -> Rendering {
    try rendering(chat, hermes(chat), splitsCalls: false)
  }

  private func rendering(
    _ chat: Conversation, _ hermes: HermesChat?, splitsCalls: Bool
  ) throws(ChatFormatError) -> Rendering {
    let template = template(for: chat)
    guard let hermes else { return try template.rendering(chat, splitsCalls: splitsCalls) }
    return try template.rendering(hermes.chat, splitsCalls: splitsCalls).renumbered(hermes.indices)
  }

  /// The prompt as text.
  /// - Throws: `ChatFormatError` if the template refuses the chat or fails
  public func render(_ chat: Conversation) throws(ChatFormatError) -> String {
    try Self.text(chat, try rendering(chat, hermes(chat), splitsCalls: true))
  }

  private static func text(_ chat: Conversation, _ rendering: Rendering) throws(ChatFormatError) -> String {
    guard chat.continuesFinalMessage else { return rendering.text }
    return try cut(rendering.text, afterContentOf: chat.messages.last)
  }

  /// The prompt as tokens. A special token that is spelled out in a message or a tool's definition is tokenised as text.
  /// - Parameter addingBOS: most templates write the beginning-of-sequence token themselves
  /// - Throws: `ChatFormatError` if the template refuses the chat or fails
  public func tokens(_ chat: Conversation, addingBOS: Bool = false) throws(ChatFormatError) -> [Int32] {
    try prompt(chat, addingBOS: addingBOS).tokens
  }

  /// A chat as tokens, and what the template left out of it.
  public struct Prompt: Sendable {
    /// The prompt's tokens.
    public var tokens: [Int32]
    /// One sentence for each thing that was given and that the template does not show.
    public var warnings: [String] = []
  }

  /// The prompt as tokens, and what the template left out.
  /// - Parameters:
  ///   - addingBOS: most templates write the beginning-of-sequence token themselves
  ///   - limit: tokenising stops once there are so many tokens
  ///   - isCancelled: asked often; tokenising stops once it is true
  /// - Throws: `ChatFormatError` if the template refuses the chat or fails
  public func prompt(
    _ chat: Conversation, addingBOS: Bool = false, limit: Int = .max, isCancelled: (() -> Bool)? = nil
  ) throws(ChatFormatError) -> Prompt {
    let hermes = hermes(chat)
    let rendering = try rendering(chat, hermes, splitsCalls: true)
    let text = try Self.text(chat, rendering)
    let end = text.utf8.count
    let data = rendering.dataSpans.filter { $0.lowerBound < end }.map { $0.lowerBound..<min($0.upperBound, end) }
    let tokens = tokenizer.encode(
      text, parsingSpecialTokens: true, except: data, addingBOS: addingBOS, limit: limit, isCancelled: isCancelled)
    var warnings = hermes?.warnings ?? warnings(chat, rendering)
    if template(for: chat).mustSplitCalls(of: hermes?.chat ?? chat) {
      warnings.append("The chat template takes one call of a message: further ones are in messages of their own.")
    }
    if !chat.tools.isEmpty, writesOtherCalls {
      warnings.append(
        "The chat template writes tool calls in a form that is not read: calls are found where the model writes "
          + (toolCallForm == .tagged ? "JSON between <tool_call> and </tool_call>." : "JSON objects at the end."))
    }
    return Prompt(tokens: tokens, warnings: warnings)
  }

  /// What the template left out of a chat that it got as it is.
  private func warnings(_ chat: Conversation, _ rendering: Rendering) -> [String] {
    let bytes = Array(rendering.text.utf8)
    let spans = Dictionary(uniqueKeysWithValues: rendering.messageSpans.map { ($0.message, $0.ranges) })
    for (index, message) in chat.messages.enumerated() {
      let calls = message.object?["tool_calls"]?.array ?? []
      let names = calls.compactMap { $0.object?["function"]?.object?["name"]?.string }.map { Array($0.utf8) }
      if names.isEmpty { continue }
      let shown = Array((spans[index] ?? []).map { bytes[$0] }.joined(separator: "\n".utf8))
      if Self.areAll(names, in: shown) { continue }
      return ["The chat template does not show past tool calls, so the model does not know of them."]
    }
    return []
  }

  /// Whether a text has all these names. A template writes calls in their order, so each name is looked for behind the one
  /// before it first: then the text is read once, however many there are.
  private static func areAll(_ names: [[UInt8]], in text: [UInt8]) -> Bool {
    var end = 0
    return names.allSatisfy { name in
      guard let found = ByteSearch.first(name, in: text, from: end) ?? ByteSearch.first(name, in: text) else {
        return false
      }
      end = found + name.count
      return true
    }
  }

  /// The rendered text up to the end of the last message's text, without the message's outer white space.
  /// - Throws: `ChatFormatError` if the message's text is not in the rendering
  private static func cut(_ text: String, afterContentOf message: JSONValue?) throws(ChatFormatError) -> String {
    let content = message?.object?["content"]
    let last = content?.string ?? content?.array?.last?.object?["text"]?.string ?? ""
    let words = last.drop(while: \.isWhitespace)
    var end = words.endIndex
    while end > words.startIndex, words[words.index(before: end)].isWhitespace { end = words.index(before: end) }
    let needle = Array(words[..<end].utf8)
    let bytes = Array(text.utf8)
    guard !needle.isEmpty, let start = ByteSearch.last(needle, in: bytes)
    else { throw .failed("the last message cannot be continued: the chat template does not show its text") }
    return String(decoding: bytes[..<(start + needle.count)], as: UTF8.self)
  }

  /// The first special token after an assistant's message, if there is only space before it. None, if another one of the
  /// model's end tokens comes later in the turn.
  private func turnEnds() -> Set<Int32> {
    let marker = ProbedTemplate.marker
    let messages: [JSONValue] = [
      ["role": "user", "content": "Hi"], ["role": "assistant", "content": .string(marker)],
    ]
    let chat = Conversation(messages: messages, addsGenerationPrompt: false)
    guard let text = try? render(chat) else { return [] }
    let bytes = Array(text.utf8)
    guard let start = ByteSearch.last(Array(marker.utf8), in: bytes) else { return [] }
    let tail = String(decoding: bytes[(start + marker.utf8.count)...], as: UTF8.self)
    let tokens = tokenizer.encode(tail, parsingSpecialTokens: true, addingBOS: false)
    let own = tokens.first(where: tokenizer.eosTokens.contains)
    for token in tokens {
      if tokenizer.isSpecial(token) { return own == nil || own == token ? [token] : [] }
      let isSpace = tokenizer.tokenBytes(token)?.allSatisfy(\.isSpace) ?? false
      if !isSpace { return [] }
    }
    return []
  }
}

extension ModelError {
  /// The error for a model that comes without a chat template. Its subject is the model.
  public static func noChatTemplate(_ model: String) -> ModelError {
    ModelError(model, reason: "has no chat template")
  }
}
