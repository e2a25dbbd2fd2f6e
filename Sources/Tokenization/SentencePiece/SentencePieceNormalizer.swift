/// What SentencePiece does to a text before it is split into tokens (sentencepiece's `Normalizer`).
struct SentencePieceNormalizer: Sendable {
  /// Where a space is put before the text.
  enum Prefix: Sendable {
    case never
    /// Only at the beginning of the whole text.
    case first
    /// Also behind each special token.
    case always
  }

  var charsmap: PrecompiledCharsmap?
  /// Strings that stay as they are: the user-defined symbols.
  var verbatim = ByteTrie([])
  var prefix = Prefix.always
  /// Whether runs of spaces become one, and those at the ends nothing.
  var removesExtraSpaces = false
  /// Whether a space becomes U+2581.
  var escapesSpaces = true

  private static let space = UInt8(ascii: " ")

  /// - Parameter startsText: the text is at the beginning of the whole text
  func normalize(_ text: UnsafeBufferPointer<UInt8>, startsText: Bool, _ offsets: inout OffsetMap) -> [UInt8] {
    var position = 0
    if removesExtraSpaces {
      while position < text.count {
        let (end, replacement) = next(in: text, from: position)
        guard replacement.map({ $0.elementsEqual([Self.space]) }) ?? (text[position] == Self.space) else { break }
        position = end
      }
    }
    offsets.move(upTo: position, to: 0)
    if position == text.count { return [] }
    let spaceBytes = escapesSpaces ? metaspaceBytes : [Self.space]
    var result: [UInt8] = []
    result.reserveCapacity(text.count + text.count / 4 + 3)
    if prefix == .always || (prefix == .first && startsText) { result.append(contentsOf: spaceBytes) }
    let prefixCount = result.count
    var followsSpace = removesExtraSpaces
    /// Appends a part of the result; behind a space without the spaces that it begins with.
    func append(_ part: some Sequence<UInt8>) {
      var isBeginning = followsSpace
      for byte in part {
        if byte != Self.space {
          result.append(byte)
          isBeginning = false
        } else if !isBeginning {
          result.append(contentsOf: spaceBytes)
        }
        followsSpace = removesExtraSpaces && byte == Self.space
      }
    }
    while position < text.count {
      let (end, replacement) = next(in: text, from: position)
      if let replacement { append(replacement) } else { append(text[position..<end]) }
      position = end
      offsets.move(upTo: position, to: result.count)
    }
    if removesExtraSpaces {
      while result.count > prefixCount, result.suffix(spaceBytes.count).elementsEqual(spaceBytes) {
        result.removeLast(spaceBytes.count)
      }
      offsets.limit(to: result.count)
    }
    return result
  }

  /// Where the part of the text that begins at `start` ends, and what it becomes; `nil` if it stays as it is.
  private func next(
    in text: UnsafeBufferPointer<UInt8>, from start: Int
  ) -> (end: Int, replacement: ArraySlice<UInt8>?) {
    if let end = verbatim.longestPrefix(of: text, from: start) { return (end, nil) }
    if let match = charsmap?.longestMatch(in: text, from: start) { return (match.end, match.replacement) }
    var end = start + 1
    while end < text.count && text[end] & 0xC0 == 0x80 { end += 1 }
    return (end, nil)
  }
}
