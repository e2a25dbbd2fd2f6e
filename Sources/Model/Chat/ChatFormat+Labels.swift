import Formats
import Tokenization
internal import Template

/// A rendered chat as tokens, with the assistant message that each token belongs to.
public struct LabelledChat: Sendable, Equatable {
  /// The tokens of the whole chat.
  public var tokens: [Int32]
  /// [tokens]: the index of the assistant message in whose turn the token is. A turn begins after the generation prompt and
  /// includes the token that ends it. `nil` for all other tokens.
  public var messages: [Int?]
}

extension ChatFormat {
  /// The tokens of a whole chat, and which of them the assistant writes: what a turn renders after the generation prompt,
  /// with tool calls and the template's own text, through the token that ends the turn. If the template has
  /// `{% generation %}` blocks (transformers), they are the turns instead.
  ///
  /// A token of which a part belongs to a turn belongs to it as a whole.
  /// - Parameter learnt: indices of the assistant messages whose turns are located; `nil` for all
  /// - Throws: `ChatFormatError` if the template refuses the chat, or if the tokenizer changes its text so that tokens
  ///   cannot be located in it
  public func labelled(_ chat: Conversation, learnt: Set<Int>? = nil) throws(ChatFormatError) -> LabelledChat {
    var chat = chat
    chat.addsGenerationPrompt = false
    let rendering = try rendering(chat)
    let tokens = tokenizer.encode(
      rendering.text, parsingSpecialTokens: true, except: rendering.dataSpans, addingBOS: false)
    let ends = try ends(of: tokens, in: Array(rendering.text.utf8))
    let answers = chat.messages.indices.filter { index in
      chat.messages[index].object?["role"] == "assistant" && learnt?.contains(index) != false
    }
    let turns = ChatTurns(format: self, chat: chat, rendering: rendering, tokens: tokens, ends: ends)
    var labelled = LabelledChat(tokens: tokens, messages: Array(repeating: nil, count: tokens.count))
    for turn in rendering.generationSpans.isEmpty ? turns.turns(of: answers) : turns.generationBlocks(of: answers) {
      var next = turns.firstToken(endingAfter: turn.bytes.lowerBound)
      while next < tokens.count, turns.start(of: next) < turn.bytes.upperBound {
        labelled.messages[next] = turn.message
        next += 1
      }
    }
    return labelled
  }

  /// The byte of the text at which each token ends, [tokens].
  ///
  /// The bytes of the tokens between two special tokens are looked up in the text as one run. Some tokenizers put a space
  /// before a run; some special tokens take the space around them.
  /// - Throws: `ChatFormatError` if a run is not in the text
  func ends(of tokens: [Int32], in text: [UInt8]) throws(ChatFormatError) -> [Int] {
    var ends: [Int] = []
    ends.reserveCapacity(tokens.count)
    var position = 0
    while ends.count < tokens.count {
      let start = ends.count
      let isSpecial = tokenizer.isSpecial(tokens[start])
      let end = isSpecial ? start + 1 : tokens[start...].firstIndex(where: tokenizer.isSpecial) ?? tokens.count
      let bytes = tokens[start..<end].map { tokenizer.tokenBytes($0) ?? [] }
      let run = Array(bytes.joined())
      guard let found = find(run, mayDropSpace: !isSpecial, in: text, from: position) else {
        position += zip(text[position...], run).prefix { $0 == $1 }.count
        throw .failed("the tokenizer changes the text at byte \(position), so an answer cannot be located in it")
      }
      // The first token is shorter where its space is not in the text.
      position = found.start - found.dropped
      for token in bytes {
        position += token.count
        ends.append(max(position, found.start))
      }
    }
    guard text[position...].allSatisfy(\.isSpace) else {
      throw .failed("the tokenizer drops text from byte \(position) on")
    }
    return ends
  }

  /// Finds a run behind nothing but space.
  /// - Parameter mayDropSpace: the run's first space need not be in the text
  /// - Returns: where the run begins in the text, and how many of its bytes (0 or 1) are not in the text
  private func find(
    _ run: [UInt8], mayDropSpace: Bool, in text: [UInt8], from position: Int
  ) -> (start: Int, dropped: Int)? {
    func fits(_ bytes: ArraySlice<UInt8>, at start: Int) -> Bool {
      bytes.count <= text.count - start && text[start..<start + bytes.count].elementsEqual(bytes)
    }
    var start = position
    while true {
      if fits(run[...], at: start) { return (start, 0) }
      if mayDropSpace, run.first == 0x20, fits(run.dropFirst(), at: start) { return (start, 1) }
      guard start < text.count, text[start].isSpace else { return nil }
      start += 1
    }
  }
}
