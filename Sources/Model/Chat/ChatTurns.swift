import Formats
import Tokenization
internal import Template

/// Finds the assistant's turns in a rendered chat. A turn begins where the chat goes beyond what the template renders of
/// the messages before it with the generation prompt: the prompt that the model is given when it has to write the turn.
struct ChatTurns {
  /// A turn, or a part of one.
  struct Turn {
    /// The assistant message's index.
    var message: Int
    /// The turn's range in the text's UTF-8.
    var bytes: Range<Int>
  }

  private let format: ChatFormat
  private let chat: Conversation
  private let rendering: Rendering
  private let text: [UInt8]
  private let tokens: [Int32]
  /// The byte of the text at which each token ends.
  private let ends: [Int]
  /// The bytes of each message's own text, by the message's index.
  private let extents: [Int: Range<Int>]

  /// - Parameters:
  ///   - rendering: of the whole chat
  ///   - tokens: of the rendering
  ///   - ends: the byte at which each token ends
  init(format: ChatFormat, chat: Conversation, rendering: Rendering, tokens: [Int32], ends: [Int]) {
    self.format = format
    self.chat = chat
    self.rendering = rendering
    self.tokens = tokens
    self.ends = ends
    text = Array(rendering.text.utf8)
    extents = Self.extents(rendering)
  }

  /// The bytes from a message's first one to its last one before another message's: a template may repeat a part of a
  /// message later.
  private static func extents(_ rendering: Rendering) -> [Int: Range<Int>] {
    let spans = rendering.messageSpans.flatMap { spans in spans.ranges.map { (message: spans.message, range: $0) } }
    var extents: [Int: Range<Int>] = [:]
    var last: Int?
    for (message, range) in spans.sorted(by: { $0.range.lowerBound < $1.range.lowerBound }) {
      if let extent = extents[message] {
        if last == message { extents[message] = extent.lowerBound..<max(extent.upperBound, range.upperBound) }
      } else {
        extents[message] = range
      }
      last = message
    }
    return extents
  }

  // MARK: turns

  /// The turns of these assistant messages.
  func turns(of messages: [Int]) -> [Turn] {
    messages.map { message in
      let alone = renderingThrough(message)
      // A later message may repeat text of this one. So if the chat begins like the chat that ends with this message, the
      // messages' extents are taken from that.
      var extents = extents
      let early = alone.map(Self.extents) ?? [:]
      if let alone, let own = early[message], text.starts(with: alone.text.utf8.prefix(own.upperBound)) {
        extents = extents.filter { $0.key > message }.merging(early) { $1 }
      }
      let start = start(of: message, extents)
      return Turn(message: message, bytes: start..<max(start, end(of: message, from: start, extents, alone)))
    }
  }

  /// The rendering of the chat that ends with this message; `nil` if the template cannot render it.
  private func renderingThrough(_ message: Int) -> Rendering? {
    if message == chat.messages.count - 1 { return rendering }
    var part = chat
    part.messages = Array(chat.messages[...message])
    return try? format.rendering(part)
  }

  // MARK: the beginning of a turn

  /// The byte where a message's turn begins, after the prompt that asks for it.
  private func start(of message: Int, _ extents: [Int: Range<Int>]) -> Int {
    var before = chat
    before.messages = Array(chat.messages[..<message])
    before.addsGenerationPrompt = true
    // Before the first message there is no prompt to compare with; not every template can render an empty chat.
    guard let prompt = try? format.rendering(before) else {
      return startByGenerationPrompt(of: minimalChat, message, extents) ?? extents[message]?.lowerBound ?? 0
    }
    if text.starts(with: prompt.text.utf8) { return prompt.text.utf8.count }
    // The template may render earlier messages differently in the whole chat, without their thinking say. So what follows
    // the last of them is compared.
    let last = messageBefore(message, extents)
    guard let end = last.map({ Self.extents(prompt)[$0.message]?.upperBound }) ?? 0 else {
      return startByGenerationPrompt(of: before, message, extents) ?? extents[message]?.lowerBound ?? 0
    }
    let common = startByComparing(from: last?.end ?? 0, with: prompt, from: end)
    return max(common, startByGenerationPrompt(of: before, message, extents) ?? common)
  }

  /// The last message whose text is before this one's, and the byte where it ends.
  private func messageBefore(_ message: Int, _ extents: [Int: Range<Int>]) -> (message: Int, end: Int)? {
    let limit =
      extents[message]?.lowerBound
      ?? extents.filter { $0.key > message }.map(\.value.lowerBound).min() ?? text.count
    let earlier = extents.filter { $0.key < message && $0.value.upperBound <= limit }
    return earlier.max { $0.value.upperBound < $1.value.upperBound }.map { ($0.key, $0.value.upperBound) }
  }

  /// The byte where the first token begins that differs from the prompt's, in the text from `position` on and in the
  /// prompt from `other` on.
  private func startByComparing(from position: Int, with prompt: Rendering, from other: Int) -> Int {
    let asked = Array(prompt.text.utf8)
    let start = position + zip(text[position...], asked[other...]).prefix { $0 == $1 }.count
    let ids = format.tokenizer.encode(
      prompt.text, parsingSpecialTokens: true, except: prompt.dataSpans, addingBOS: false)
    guard let otherEnds = try? format.ends(of: ids, in: asked) else { return start }
    var token = firstToken(endingAfter: position)
    var index = otherEnds.firstIndex { $0 > other } ?? ids.count
    while token < tokens.count, index < ids.count, tokens[token] == ids[index] {
      (token, index) = (token + 1, index + 1)
    }
    return min(max(position, self.start(of: token)), start)
  }

  /// A chat that any template can render.
  private var minimalChat: Conversation {
    Conversation(messages: [["role": "user", "content": "Hi"]], tools: chat.tools, variables: chat.variables)
  }

  /// The end of the generation prompt that stands last before a message's text. The generation prompt is what the template
  /// appends to the chat `asking`. `nil` if it is not there.
  private func startByGenerationPrompt(
    of asking: Conversation, _ message: Int, _ extents: [Int: Range<Int>]
  ) -> Int? {
    let from = messageBefore(message, extents)?.end ?? 0
    var silent = asking
    silent.addsGenerationPrompt = false
    guard let to = extents[message]?.lowerBound, let asked = try? format.rendering(asking).text.utf8,
      let bare = try? format.rendering(silent).text.utf8, asked.starts(with: bare)
    else { return nil }
    let opening = Array(asked.dropFirst(bare.count))
    guard !opening.isEmpty, from + opening.count <= to else { return nil }
    let start = (from...(to - opening.count)).last { text[$0...].starts(with: opening) }
    return start.map { $0 + opening.count }
  }

  // MARK: the end of a turn

  /// The byte after the first end token of the model that follows the message's own text. Without one: the byte after the
  /// last special token that the turn renders, or after all that the turn renders.
  /// - Parameter alone: the rendering of the chat that ends with this message
  private func end(of message: Int, from start: Int, _ extents: [Int: Range<Int>], _ alone: Rendering?) -> Int {
    let written = max(start, extents[message]?.upperBound ?? start)
    let next = extents.filter { $0.key != message }.map(\.value.lowerBound).filter { $0 >= written }.min() ?? text.count
    var index = firstToken(startingAt: written)
    while index < tokens.count, self.start(of: index) < next {
      if format.tokenizer.eosTokens.contains(tokens[index]) { return ends[index] }
      index += 1
    }
    guard let limit = endOfRendering(alone, of: message, from: written, next: next) else { return written }
    index = firstToken(startingAt: written)
    var end: Int?
    while index < tokens.count, ends[index] <= limit {
      if format.tokenizer.isSpecial(tokens[index]) { end = ends[index] }
      index += 1
    }
    return end ?? limit
  }

  /// The byte where the text ends that the template puts after a message if no other message follows.
  private func endOfRendering(_ alone: Rendering?, of message: Int, from written: Int, next: Int) -> Int? {
    guard let alone else { return nil }
    let bytes = Array(alone.text.utf8)
    if text.starts(with: bytes) { return bytes.count }
    guard let extent = Self.extents(alone)[message] else { return nil }
    return min(written + zip(text[written...], bytes[extent.upperBound...]).prefix { $0 == $1 }.count, next)
  }

  // MARK: generation blocks

  /// The template's `{% generation %}` blocks that belong to these messages.
  func generationBlocks(of messages: [Int]) -> [Turn] {
    let answers = Set(messages)
    let all = chat.messages.indices.filter { chat.messages[$0].object?["role"] == "assistant" }
    return rendering.generationSpans.compactMap { span in
      let message = writer(of: span, among: all)
      return message.flatMap { answers.contains($0) ? Turn(message: $0, bytes: span) : nil }
    }
  }

  /// The assistant message that a block belongs to: the one whose text is in it. A block without a message's text belongs
  /// to the next assistant message that has no text anywhere.
  private func writer(of span: Range<Int>, among answers: [Int]) -> Int? {
    if let message = answers.first(where: { extents[$0]?.overlaps(span) == true }) { return message }
    let last = extents.filter { $0.value.upperBound <= span.lowerBound }.keys.max() ?? -1
    return answers.first { $0 > last && extents[$0] == nil }
  }

  // MARK: tokens and bytes

  /// The byte where a token begins.
  func start(of token: Int) -> Int { token == 0 ? 0 : ends[token - 1] }

  /// The first token that ends after a byte of the text.
  func firstToken(endingAfter position: Int) -> Int {
    var (low, high) = (0, ends.count)
    while low < high {
      let middle = (low + high) / 2
      if ends[middle] > position { high = middle } else { low = middle + 1 }
    }
    return low
  }

  private func firstToken(startingAt position: Int) -> Int {
    let first = firstToken(endingAfter: position)
    return first < tokens.count && start(of: first) < position ? first + 1 : first
  }
}
