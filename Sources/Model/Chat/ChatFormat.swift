public import Tokenization
public import Formats
internal import Template

/// How a model's chats become prompts: its templates, what they can take, and what ends a turn.
public struct ChatFormat: Sendable {
  let plain: ProbedTemplate
  /// The one for chats with tools, where a model has two.
  private let withTools: ProbedTemplate?
  let tokenizer: Tokenizer
  /// The tokens that the template puts after an assistant's message: they end an answer as the model's own do.
  public private(set) var endTokens: Set<Int32> = []
  /// How the model writes calls of tools, as its template shows past ones.
  public let toolCallForm: ToolCallForm

  /// - Parameter source: a template in the place of the model's own
  /// - Throws: `ModelError` where there is no template, or one that is not understood
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
    toolCallForm = (toolText ?? text).contains("<tool_call>") ? .tagged : .bare
    endTokens = turnEnds()
  }

  private func template(for chat: Conversation) -> ProbedTemplate { chat.tools.isEmpty ? plain : withTools ?? plain }

  /// The whole chat, and which bytes of it came from where.
  func rendering(_ chat: Conversation) throws(ChatFormatError) -> Rendering {
    try template(for: chat).rendering(chat)
  }

  /// The prompt's text.
  public func render(_ chat: Conversation) throws(ChatFormatError) -> String {
    try Self.text(chat, try rendering(chat))
  }

  private static func text(_ chat: Conversation, _ rendering: Rendering) throws(ChatFormatError) -> String {
    guard chat.continuesFinalMessage else { return rendering.text }
    return try cut(rendering.text, afterContentOf: chat.messages.last)
  }

  /// The prompt's tokens. The template writes the beginning of sequence itself, so none is added. A special token that a
  /// message or a tool's definition spells out is text.
  public func tokens(_ chat: Conversation, addingBOS: Bool = false) throws(ChatFormatError) -> [Int32] {
    try prompt(chat, addingBOS: addingBOS).tokens
  }

  /// A chat as tokens, and what of it the template left out.
  public struct Prompt: Sendable {
    public var tokens: [Int32]
    /// One sentence for each kind of thing that was given and does not show.
    public var warnings: [String] = []
  }

  /// As `tokens`, with what the template left out.
  /// - Parameters:
  ///   - limit: with so many tokens or more, the rest is left out.
  ///   - isCancelled: asked often; once it is true, the rest is left out.
  public func prompt(
    _ chat: Conversation, addingBOS: Bool = false, limit: Int = .max, isCancelled: (() -> Bool)? = nil
  ) throws(ChatFormatError) -> Prompt {
    let rendering = try rendering(chat)
    let text = try Self.text(chat, rendering)
    let end = text.utf8.count
    let data = rendering.dataSpans.filter { $0.lowerBound < end }.map { $0.lowerBound..<min($0.upperBound, end) }
    let tokens = tokenizer.encode(
      text, parsingSpecialTokens: true, except: data, addingBOS: addingBOS, limit: limit, isCancelled: isCancelled)
    return Prompt(tokens: tokens, warnings: Self.warnings(chat, rendering))
  }

  private static func warnings(_ chat: Conversation, _ rendering: Rendering) -> [String] {
    var warnings: [String] = []
    if !chat.tools.isEmpty, rendering.toolSpans.isEmpty {
      warnings.append("The chat template does not show tools, so the model does not know of them.")
    }
    let bytes = Array(rendering.text.utf8)
    let spans = Dictionary(uniqueKeysWithValues: rendering.messageSpans.map { ($0.message, $0.ranges) })
    for (index, message) in chat.messages.enumerated() {
      let calls = message.object?["tool_calls"]?.array ?? []
      if calls.isEmpty { continue }
      let shown = (spans[index] ?? []).map { String(decoding: bytes[$0], as: UTF8.self) }.joined(separator: "\n")
      let names = calls.compactMap { $0.object?["function"]?.object?["name"]?.string }
      if names.allSatisfy(shown.contains) { continue }
      warnings.append("The chat template does not show past tool calls, so the model does not know of them.")
      break
    }
    return warnings
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
    guard !needle.isEmpty, let start = lastPlace(of: needle, in: bytes)
    else { throw .failed("the last message cannot be continued: the chat template does not show its text") }
    return String(decoding: bytes[..<(start + needle.count)], as: UTF8.self)
  }

  private static func lastPlace(of needle: [UInt8], in bytes: [UInt8]) -> Int? {
    guard needle.count <= bytes.count else { return nil }
    return (0...(bytes.count - needle.count)).last { bytes[$0...].starts(with: needle) }
  }

  /// The first special token behind an assistant's message, if only space stands before it. A turn in which one of the
  /// model's own end tokens stands later has no other.
  private func turnEnds() -> Set<Int32> {
    let marker = ProbedTemplate.marker
    let messages: [JSONValue] = [
      ["role": "user", "content": "Hi"], ["role": "assistant", "content": .string(marker)],
    ]
    let chat = Conversation(messages: messages, addsGenerationPrompt: false)
    guard let text = try? render(chat) else { return [] }
    let bytes = Array(text.utf8)
    guard let start = Self.lastPlace(of: Array(marker.utf8), in: bytes) else { return [] }
    let tail = String(decoding: bytes[(start + marker.utf8.count)...], as: UTF8.self)
    let tokens = tokenizer.encode(tail, parsingSpecialTokens: true, addingBOS: false)
    let own = tokens.first(where: tokenizer.eosTokens.contains)
    for token in tokens {
      if tokenizer.isSpecial(token) { return own == nil || own == token ? [token] : [] }
      let isSpace = tokenizer.tokenBytes(token)?.allSatisfy { $0 == 0x20 || (0x09...0x0D).contains($0) } ?? false
      if !isSpace { return [] }
    }
    return []
  }
}

extension ModelError {
  /// A model that comes without a chat template.
  public static func noChatTemplate(_ model: String) -> ModelError {
    ModelError(model, reason: "has no chat template")
  }
}
