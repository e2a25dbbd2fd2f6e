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

  /// Where each token's bytes end in the text.
  func ends(of tokens: [Int32], in text: [UInt8]) throws(ChatFormatError) -> [Int] {
    var ends: [Int] = []
    ends.reserveCapacity(tokens.count)
    var position = 0
    var isBehindSpecial = true
    for token in tokens {
      let isSpecial = tokenizer.isSpecial(token)
      var bytes = (tokenizer.tokenBytes(token) ?? [])[...]
      func fits() -> Bool {
        bytes.count <= text.count - position && text[position..<position + bytes.count].elementsEqual(bytes)
      }
      // Some special tokens take the space around them in.
      if isSpecial || isBehindSpecial, !fits() {
        let start = position
        while position < text.count, text[position] == 0x20 || (0x09...0x0D).contains(text[position]), !fits() {
          position += 1
        }
        if !fits() { position = start }
      }
      // Some tokenizers put a space before a text, and before what stands behind a special token.
      if isBehindSpecial, bytes.first == 0x20, !fits() { bytes = bytes.dropFirst() }
      guard fits() else {
        throw .failed("the tokenizer changes the text at byte \(position), so an answer cannot be located in it")
      }
      position += bytes.count
      ends.append(position)
      isBehindSpecial = isSpecial
    }
    while isBehindSpecial, position < text.count, text[position] == 0x20 || (0x09...0x0D).contains(text[position]) {
      position += 1
    }
    guard position == text.count else { throw .failed("the tokenizer drops text from byte \(position) on") }
    return ends
  }
}
