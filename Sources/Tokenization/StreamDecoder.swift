/// Decodes token ids one by one into text of whole characters.
///
/// The texts that `push` and `finish` return, joined, equal `Tokenizer.decode` of the same ids. Bytes that can no
/// longer become a character become U+FFFD, one for each maximal subpart of a sequence (Unicode 15, table 3-8).
public struct StreamDecoder: Sendable {
  private let tokenizer: Tokenizer
  private let skippingSpecialTokens: Bool
  private let shown: Set<Int32>
  /// How many leading spaces are still to be removed.
  private var spacesToDrop: Int
  /// The first bytes of a character that is not complete yet, at most three.
  private var pending: [UInt8] = []

  /// - Parameters:
  ///   - skippingSpecialTokens: special tokens decode to nothing
  ///   - shown: special tokens that decode to their text nevertheless
  ///   - isContinuation: the ids follow other text, so a space before the first word is kept. At the beginning of a text
  ///     SentencePiece's is removed.
  public init(
    _ tokenizer: Tokenizer, skippingSpecialTokens: Bool = true, showing shown: Set<Int32> = [],
    isContinuation: Bool = false
  ) {
    self.tokenizer = tokenizer
    self.skippingSpecialTokens = skippingSpecialTokens
    self.shown = shown
    spacesToDrop = isContinuation ? 0 : tokenizer.spacesDroppedAtStart
  }

  /// Adds an id. One that is not in the vocabulary is ignored.
  /// - Returns: the text that is certain by now, often none
  public mutating func push(_ id: Int32) -> String {
    append(id)
    return takeComplete()
  }

  /// Ends the text.
  /// - Returns: U+FFFD if a character is incomplete, else nothing
  public mutating func finish() -> String {
    defer { pending.removeAll() }
    return String(decoding: pending, as: UTF8.self)
  }

  /// Whether the last token ended inside a character.
  public var hasPending: Bool { !pending.isEmpty }

  /// Adds an id without returning text, for decoding many ids at once.
  mutating func append(_ id: Int32) {
    guard let bytes = tokenizer.bytes(of: id),
      !(skippingSpecialTokens && tokenizer.isSpecial(id) && !shown.contains(id))
    else { return }
    var rest = bytes
    while spacesToDrop > 0, let first = rest.first {
      if first == UInt8(ascii: " ") {
        rest.removeFirst()
        spacesToDrop -= 1
      } else {
        spacesToDrop = 0
      }
    }
    pending.append(contentsOf: rest)
  }

  mutating func takeComplete() -> String {
    if pending.isEmpty { return "" }
    let held = Self.incompleteSuffix(of: pending)
    let text = String(decoding: pending.dropLast(held), as: UTF8.self)
    pending.removeFirst(pending.count - held)
    return text
  }

  /// How many bytes at the end are the beginning of a character (Unicode 15, table 3-7).
  private static func incompleteSuffix(of bytes: [UInt8]) -> Int {
    for length in 1...3 where length <= bytes.count {
      let lead = bytes[bytes.count - length]
      if lead & 0xC0 == 0x80 { continue }
      let width =
        switch lead {
        case 0xC2...0xDF: 2
        case 0xE0...0xEF: 3
        case 0xF0...0xF4: 4
        default: 1
        }
      if length >= width { return 0 }
      if length == 1 { return 1 }
      let second = bytes[bytes.count - length + 1]
      let isPossible =
        switch lead {
        case 0xE0: second >= 0xA0
        case 0xED: second < 0xA0
        case 0xF0: second >= 0x90
        case 0xF4: second < 0x90
        default: true
        }
      return isPossible ? length : 0
    }
    return 0
  }
}
