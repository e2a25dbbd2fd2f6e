/// A token that is found in the text as a whole, before the text is split (tokenizer.json's `added_tokens`).
struct AddedToken: Sendable {
  var id: Int32
  var content: String
  /// Not part of what a user writes: decoding can skip it, and encoding can treat it as text.
  var isSpecial: Bool
  /// Whether it is looked for in the normalized text; else in the text before that.
  var isNormalized = false
  var stripsLeft = false
  var stripsRight = false
  var isSingleWord = false
}

/// Finds added tokens in a text: the leftmost, and of those the longest.
struct AddedTokenMatcher: Sendable {
  static let maximumLength = 4096
  /// The maximum of all tokens together, in bytes: each byte can take a node of the trie.
  static let maximumBytes = 8 << 20

  private let tokens: [AddedToken]
  /// A trie over bytes. Node 0 is the root; children by (node, byte).
  private var children: [UInt64: Int32] = [:]
  /// The index in `tokens` of the token that ends at a node; −1 for none.
  private var ends: [Int32] = [-1]
  private var isFirstByte = [Bool](repeating: false, count: 256)

  /// - Parameter content: the bytes that are looked for, of a token
  init(_ tokens: [AddedToken], content: (AddedToken) -> [UInt8]) {
    self.tokens = tokens
    for (index, token) in tokens.enumerated() {
      let bytes = content(token)
      guard let first = bytes.first else { continue }
      isFirstByte[Int(first)] = true
      var node: Int32 = 0
      for byte in bytes {
        let key = Self.key(node, byte)
        if let child = children[key] {
          node = child
        } else {
          node = Int32(ends.count)
          ends.append(-1)
          children[key] = node
        }
      }
      ends[Int(node)] = Int32(index)
    }
  }

  /// Why tokens cannot be looked for; `nil` if they can.
  /// - Parameter group: what they are called, with a space
  static func problem(_ tokens: [AddedToken], group: String = "the added ones ") -> String? {
    var byteCount = 0
    for token in tokens {
      if token.content.utf8.count > maximumLength { return "token \(token.id) is longer than \(maximumLength) bytes" }
      byteCount += token.content.utf8.count
      if byteCount > maximumBytes { return "\(group)have more than \(maximumBytes) bytes together" }
    }
    return nil
  }

  var isEmpty: Bool { ends.count == 1 }

  private static func key(_ node: Int32, _ byte: UInt8) -> UInt64 { UInt64(node) << 8 | UInt64(byte) }

  /// Whether a special token is among those looked for.
  var hasSpecial: Bool { tokens.contains(where: \.isSpecial) }

  /// - Parameter specialEnd: special tokens match only if they end here or before
  private func longestMatch(
    at start: Int, in text: UnsafeBufferPointer<UInt8>, specialEnd: Int
  ) -> (token: AddedToken, end: Int)? {
    var node: Int32 = 0
    var position = start
    var found: (token: AddedToken, end: Int)?
    while position < text.count, let child = children[Self.key(node, text[position])] {
      node = child
      position += 1
      let index = ends[Int(node)]
      guard index >= 0, position <= specialEnd || !tokens[Int(index)].isSpecial else { continue }
      found = (tokens[Int(index)], position)
    }
    return found
  }

  /// Calls `body` with each part of the text in order: the id of an added token, or `nil` for the text between them.
  /// - Parameters:
  ///   - includingSpecial: whether special tokens are found; else they are text
  ///   - data: byte ranges that no special token overlaps; ascending, not overlapping
  func split(
    _ text: UnsafeBufferPointer<UInt8>, includingSpecial: Bool, except data: [Range<Int>] = [],
    _ body: (Range<Int>, Int32?) -> Void
  ) {
    var textStart = 0
    var position = 0
    var data = data[...]
    while position < text.count {
      guard isFirstByte[Int(text[position])] else {
        position += 1
        continue
      }
      while let first = data.first, first.upperBound <= position { data = data.dropFirst() }
      guard let match = longestMatch(at: position, in: text, specialEnd: data.first?.lowerBound ?? text.count) else {
        position += 1
        continue
      }
      let token = match.token
      let skipped =
        (token.isSpecial && !includingSpecial)
        || (token.isSingleWord && !standsAlone(position..<match.end, in: text))
      if skipped {
        position = match.end
        continue
      }
      var range = position..<match.end
      if token.stripsLeft { range = whitespaceStart(before: range.lowerBound, from: textStart, in: text)..<match.end }
      if token.stripsRight { range = range.lowerBound..<whitespaceEnd(after: range.upperBound, in: text) }
      if textStart < range.lowerBound { body(textStart..<range.lowerBound, nil) }
      body(range, token.id)
      textStart = range.upperBound
      position = textStart
    }
    if textStart < text.count { body(textStart..<text.count, nil) }
  }

  private func standsAlone(_ range: Range<Int>, in text: UnsafeBufferPointer<UInt8>) -> Bool {
    if let before = lastScalar(of: text, before: range.lowerBound), Self.isWord(before.scalar) { return false }
    if let after = firstScalar(of: text, from: range.upperBound), Self.isWord(after.scalar) { return false }
    return true
  }

  private func whitespaceStart(before end: Int, from start: Int, in text: UnsafeBufferPointer<UInt8>) -> Int {
    var position = end
    while position > start, let last = lastScalar(of: text, before: position), last.scalar.properties.isWhitespace {
      position = last.start
    }
    return max(position, start)
  }

  private func whitespaceEnd(after start: Int, in text: UnsafeBufferPointer<UInt8>) -> Int {
    var position = start
    while let next = firstScalar(of: text, from: position), next.scalar.properties.isWhitespace { position = next.end }
    return position
  }

  private func firstScalar(
    of text: UnsafeBufferPointer<UInt8>, from start: Int
  ) -> (scalar: Unicode.Scalar, end: Int)? {
    let slice = text[start..<min(start + 4, text.count)]
    guard let scalar = String(decoding: slice, as: UTF8.self).unicodeScalars.first else { return nil }
    return (scalar, start + UTF8.width(scalar))
  }

  private func lastScalar(
    of text: UnsafeBufferPointer<UInt8>, before end: Int
  ) -> (scalar: Unicode.Scalar, start: Int)? {
    var start = end - 1
    while start > 0 && text[start] & 0xC0 == 0x80 { start -= 1 }
    guard start >= 0, let scalar = firstScalar(of: text, from: start)?.scalar else { return nil }
    return (scalar, start)
  }

  /// Whether a scalar is a word character of Unicode's regular expressions (UTS 18, annex C).
  private static func isWord(_ scalar: Unicode.Scalar) -> Bool {
    let properties = scalar.properties
    if properties.isAlphabetic || properties.isJoinControl { return true }
    switch properties.generalCategory {
    case .decimalNumber, .connectorPunctuation, .nonspacingMark, .spacingMark, .enclosingMark: return true
    default: return false
    }
  }
}
