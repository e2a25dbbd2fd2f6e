internal import Template

/// A rendered chat as tokens, and which of them are an assistant's.
public struct LabelledChat: Sendable, Equatable {
  public var tokens: [Int32]
  /// For each token the index of the assistant message that it is part of: of its content, or the token that ends its
  /// turn; `nil` for all else.
  public var messages: [Int?]
}

extension ChatFormat {
  /// The tokens of a whole chat, those located that an assistant wrote: by the template's own account of which bytes
  /// came from which message, so no text is searched for.
  ///
  /// A token that is partly an assistant's counts as one of its. The end of a turn is the first special token behind a
  /// message with nothing but space before it.
  /// - Throws: `ChatFormatError` where the template refuses the chat, or the tokenizer changes its text so that tokens
  ///   have no place in it
  public func labelled(_ chat: Conversation) throws(ChatFormatError) -> LabelledChat {
    let rendering = try rendering(chat)
    let tokens = tokenizer.encode(rendering.text, parsingSpecialTokens: true, addingBOS: false)
    let ends = try ends(of: tokens, in: Array(rendering.text.utf8))
    var labelled = LabelledChat(tokens: tokens, messages: Array(repeating: nil, count: tokens.count))
    for spans in rendering.assistantSpans {
      var next = 0
      for range in spans.ranges {
        next = firstIndex(in: ends, endingAfter: range.lowerBound)
        while next < tokens.count, (next == 0 ? 0 : ends[next - 1]) < range.upperBound {
          labelled.messages[next] = spans.message
          next += 1
        }
      }
      markEnd(of: spans.message, from: next, in: &labelled)
    }
    return labelled
  }

  /// Marks the token that ends a turn, and the space that leads to it.
  private func markEnd(of message: Int, from next: Int, in labelled: inout LabelledChat) {
    var last = next
    while last < labelled.tokens.count {
      let token = labelled.tokens[last]
      if tokenizer.isSpecial(token) {
        for index in next...last { labelled.messages[index] = message }
        return
      }
      guard tokenizer.tokenBytes(token)?.allSatisfy({ $0 == 0x20 || (0x09...0x0D).contains($0) }) == true else {
        return
      }
      last += 1
    }
  }

  /// The first of ascending `ends` that is beyond `position`.
  private func firstIndex(in ends: [Int], endingAfter position: Int) -> Int {
    var (low, high) = (0, ends.count)
    while low < high {
      let middle = (low + high) / 2
      if ends[middle] > position { high = middle } else { low = middle + 1 }
    }
    return low
  }

  /// Where each token's bytes end in the text.
  private func ends(of tokens: [Int32], in text: [UInt8]) throws(ChatFormatError) -> [Int] {
    var ends: [Int] = []
    ends.reserveCapacity(tokens.count)
    var position = 0
    for (index, token) in tokens.enumerated() {
      var bytes = (tokenizer.tokenBytes(token) ?? [])[...]
      // Some tokenizers put a space before a text.
      if index == 0, bytes.first == 0x20, text.first != 0x20 { bytes = bytes.dropFirst() }
      guard bytes.count <= text.count - position, text[position..<position + bytes.count].elementsEqual(bytes) else {
        throw .failed("the tokenizer changes the text at byte \(position), so an answer cannot be located in it")
      }
      position += bytes.count
      ends.append(position)
    }
    guard position == text.count else { throw .failed("the tokenizer drops text from byte \(position) on") }
    return ends
  }
}
