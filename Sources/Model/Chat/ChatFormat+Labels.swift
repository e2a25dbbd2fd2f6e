import Formats
import Tokenization
internal import Template

/// A rendered chat as tokens, and which of them are an assistant's.
public struct LabelledChat: Sendable, Equatable {
  public var tokens: [Int32]
  /// For each token the index of the assistant message in whose turn it is, from behind the generation prompt through the
  /// token that ends the turn; `nil` for all else.
  public var messages: [Int?]
}

extension ChatFormat {
  /// The tokens of a whole chat, those located that an assistant has to write: what its turn renders behind the
  /// generation prompt, tool calls and the template's own text in them included, through the token that ends the turn.
  /// A template's `{% generation %}` blocks say so instead, where it has them.
  ///
  /// A token that is partly an assistant's counts as one of its.
  /// - Parameter learnt: indices of the assistant messages whose tokens are located; `nil`: of all
  /// - Throws: `ChatFormatError` where the template refuses the chat, or the tokenizer changes its text so that tokens
  ///   have no place in it
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

  /// Where each token's bytes end in the text. Between two special tokens a run of others stands for the text, some
  /// tokenizers put a space before it, and some special tokens take the space around them in.
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
      guard let place = place(of: run, mayDropSpace: !isSpecial, in: text, from: position) else {
        position += zip(text[position...], run).prefix { $0 == $1 }.count
        throw .failed("the tokenizer changes the text at byte \(position), so an answer cannot be located in it")
      }
      // The first token is shorter where its space is not in the text.
      position = place.start - place.dropped
      for token in bytes {
        position += token.count
        ends.append(max(position, place.start))
      }
    }
    guard text[position...].allSatisfy(Self.isSpace) else {
      throw .failed("the tokenizer drops text from byte \(position) on")
    }
    return ends
  }

  private func place(
    of run: [UInt8], mayDropSpace: Bool, in text: [UInt8], from position: Int
  ) -> (start: Int, dropped: Int)? {
    func fits(_ bytes: ArraySlice<UInt8>, at start: Int) -> Bool {
      bytes.count <= text.count - start && text[start..<start + bytes.count].elementsEqual(bytes)
    }
    var start = position
    while true {
      if fits(run[...], at: start) { return (start, 0) }
      if mayDropSpace, run.first == 0x20, fits(run.dropFirst(), at: start) { return (start, 1) }
      guard start < text.count, Self.isSpace(text[start]) else { return nil }
      start += 1
    }
  }

  private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) }
}
