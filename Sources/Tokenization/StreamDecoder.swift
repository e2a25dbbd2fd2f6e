/// Turns ids into text as they come, never handing out half a character.
///
/// What the pushes and the finish return, put together, is `Tokenizer.decode` of the same ids. Bytes that can
/// no longer become a character become U+FFFD, one for each maximal part of a sequence (Unicode 15, table 3-8).
public struct StreamDecoder: Sendable {
  private let tokenizer: Tokenizer
  private let skippingSpecialTokens: Bool
  /// Leading spaces still to be dropped.
  private var spacesToDrop: Int
  /// The beginning of a character whose end has not come yet: at most three bytes.
  private var pending: [UInt8] = []

  /// - Parameter isContinuation: the ids go on from text before them, so that a space that SentencePiece puts
  ///   before a text's first word is a space here.
  public init(_ tokenizer: Tokenizer, skippingSpecialTokens: Bool = true, isContinuation: Bool = false) {
    self.tokenizer = tokenizer
    self.skippingSpecialTokens = skippingSpecialTokens
    spacesToDrop = isContinuation ? 0 : tokenizer.spacesDroppedAtStart
  }

  /// The text that is certain now, often none. Ids that the vocabulary does not have are passed over.
  public mutating func push(_ id: Int32) -> String {
    append(id)
    return takeComplete()
  }

  /// The text of bytes that waited for more: no more than one U+FFFD.
  public mutating func finish() -> String {
    defer { pending.removeAll() }
    return String(decoding: pending, as: UTF8.self)
  }

  /// The last token ended inside a character.
  public var hasPending: Bool { !pending.isEmpty }

  /// Pushes without taking text out, for decoding many ids at once.
  mutating func append(_ id: Int32) {
    guard let bytes = tokenizer.bytes(of: id), !(skippingSpecialTokens && tokenizer.isSpecial(id)) else { return }
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

  /// How many of the last bytes begin a character that later bytes may complete (Unicode 15, table 3-7).
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
