/// Offsets in a text that move to where they are in what the text becomes.
struct OffsetMap {
  /// In bytes, ascending.
  private(set) var offsets: [Int]
  private var next = 0
  /// How many bytes of the text stand for the first character of the whole text, as `tokenizers` aligns them: in what replaces
  /// several characters, all stands for the last of them. 0 if none does.
  private var start: Int
  /// How many bytes of the result do.
  private(set) var newStart = 0

  init(_ offsets: [Int], start: Int = 0) {
    self.offsets = offsets
    self.start = start
  }

  /// Moves the offsets up to `position` of the text, which were not moved before, to `position` of the result.
  mutating func move(upTo position: Int, to result: Int) {
    while next < offsets.count, offsets[next] <= position {
      offsets[next] = result
      next += 1
    }
    moveStart(upTo: position, to: result)
  }

  /// The first `position` bytes of the text become the first `result` bytes of the result.
  mutating func moveStart(upTo position: Int, to result: Int) {
    if start > 0, position <= start { newStart = result }
  }

  /// The result stands for characters that are so many before those that it comes from.
  mutating func shiftStart(by characters: Int, in text: UnsafeBufferPointer<UInt8>) {
    if start == 0 { return }
    for _ in 0..<characters { start = text.endOfCharacter(at: start) }
  }

  /// Moves offsets behind the end of the result to it.
  mutating func limit(to count: Int) { offsets = offsets.map { min($0, count) } }
}

extension UnsafeBufferPointer<UInt8> {
  /// Where the character of UTF-8 ends that begins at an offset; at the end of the text, this.
  func endOfCharacter(at start: Int) -> Int {
    var end = Swift.min(start + 1, count)
    while end < count && self[end] & 0xC0 == 0x80 { end += 1 }
    return end
  }
}
