/// SentencePiece's compiled normalization rules: for strings of one or more characters what replaces them.
///
/// The data is a double-array trie in units of 32 bits (Darts-clone), with its length in bytes before it, then the
/// replacements, each ended by a zero byte. A string's value in the trie is where its replacement begins.
struct PrecompiledCharsmap: Sendable {
  /// The maximum length of a replacement, in bytes. NFKC has up to 33.
  static let longestReplacement = 64
  /// The maximum length of a string that is looked for, in bytes. A damaged trie can have a circle, which would be followed
  /// from every character to the end of the text.
  private static let longestString = 256

  private let units: [UInt32]
  /// Ended by a zero byte.
  private let replacements: [UInt8]

  /// - Throws: `PrecompiledCharsmapError` for data that is no charsmap
  init(_ data: [UInt8]) throws(PrecompiledCharsmapError) {
    guard data.count >= 4 else { throw PrecompiledCharsmapError(reason: "\(data.count) bytes are no charsmap") }
    let words = data.withUnsafeBytes { data in
      (0..<data.count / 4).map { UInt32(littleEndian: data.loadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self)) }
    }
    let length = Int(words[0])
    guard length >= 4, length % 4 == 0, length <= data.count - 4 else {
      throw PrecompiledCharsmapError(reason: "its trie of \(length) bytes is not in its \(data.count) bytes")
    }
    units = Array(words[1..<1 + length / 4])
    let text = data[(4 + length)...]
    guard String(validating: text, as: UTF8.self) != nil else {
      throw PrecompiledCharsmapError(reason: "its replacements are not UTF-8")
    }
    // One at a time: a list of all replacements could take many times the data's memory.
    var rest = text
    while !rest.isEmpty {
      let replacement = rest.prefix { $0 != 0 }
      if replacement.count > Self.longestReplacement {
        throw PrecompiledCharsmapError(
          reason: "has a replacement of \(replacement.count) bytes, more than \(Self.longestReplacement)")
      }
      rest = rest[replacement.endIndex...].dropFirst()
    }
    replacements = Array(text) + [0]
  }

  /// What replaces the longest string of the rules that a text has at `start`, and where that string ends; `nil` if there
  /// is none.
  func longestMatch(
    in text: UnsafeBufferPointer<UInt8>, from start: Int
  ) -> (end: Int, replacement: ArraySlice<UInt8>)? {
    var longest: (end: Int, value: UInt32)?
    search(text, from: start) { end, value in
      // A string of a damaged trie may end inside a character; the rest of it would be no UTF-8.
      if end == text.count || text[end] & 0xC0 != 0x80 { longest = (end, value) }
      return true
    }
    return longest.flatMap { found in replacement(found.value).map { (found.end, $0) } }
  }

  /// What replaces the shortest string of the rules that a text begins with; `nil` if there is none.
  func shortestMatch(in text: UnsafeBufferPointer<UInt8>) -> ArraySlice<UInt8>? {
    var shortest: UInt32?
    search(text, from: 0) { _, value in
      shortest = value
      return false
    }
    return shortest.flatMap(replacement)
  }

  private func replacement(_ value: UInt32) -> ArraySlice<UInt8>? {
    let start = Int(value)
    guard start < replacements.count, let end = replacements[start...].firstIndex(of: 0) else { return nil }
    // A value of a damaged file may point into a character.
    if start < end, replacements[start] & 0xC0 == 0x80 { return nil }
    return replacements[start..<end]
  }

  /// Calls `found` with the strings that the text has at `start`, the shortest first, until it returns false.
  private func search(_ text: UnsafeBufferPointer<UInt8>, from start: Int, _ found: (Int, UInt32) -> Bool) {
    func offset(_ unit: UInt32) -> UInt32 { (unit >> 10) << ((unit & (1 << 9)) >> 6) }
    var node = offset(units[0])
    var position = start
    let end = min(text.count, start + Self.longestString)
    while position < end {
      let byte = UInt32(text[position])
      node ^= byte
      guard Int(node) < units.count else { return }
      let unit = units[Int(node)]
      guard unit & (1 << 31 | 0xFF) == byte else { return }
      node ^= offset(unit)
      position += 1
      guard unit >> 8 & 1 == 1 else { continue }
      guard Int(node) < units.count else { return }
      if !found(position, units[Int(node)] & 0x7FFF_FFFF) { return }
    }
  }
}

/// Why normalization rules cannot be used.
struct PrecompiledCharsmapError: Error {
  let reason: String
}

extension PrecompiledCharsmap {
  /// The text as `tokenizers` rewrites it: by grapheme clusters of up to five bytes, or else by characters, each as the
  /// shortest string of the rules that it begins with says.
  ///
  /// It aligns the characters of a replacement with those that it replaces one by one, and lets the result stand for the
  /// characters that the text begins with even where these are removed.
  func rewriteClusters(_ text: UnsafeBufferPointer<UInt8>, _ offsets: inout OffsetMap) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(text.count + text.count / 8)
    var position = 0
    /// Rewrites the bytes up to `end` if a rule applies to them.
    func rewrite(to end: Int) -> Bool {
      guard let replacement = shortestMatch(in: UnsafeBufferPointer(rebasing: text[position..<end])) else {
        return false
      }
      if replacement.isEmpty, result.isEmpty {
        offsets.shiftStart(by: text[position..<end].count(where: { $0 & 0xC0 != 0x80 }), in: text)
      }
      for byte in replacement {
        // A character of the replacement stands for one of the text, as long as there are any.
        if byte & 0xC0 != 0x80, position < end {
          offsets.moveStart(upTo: position, to: result.count)
          position = text.endOfCharacter(at: position)
        }
        result.append(byte)
      }
      offsets.moveStart(upTo: position, to: result.count)
      position = end
      offsets.move(upTo: position, to: result.count)
      return true
    }
    offsets.move(upTo: 0, to: 0)
    for cluster in String(decoding: text, as: UTF8.self) {
      let end = position + cluster.utf8.count
      if end - position < 6, rewrite(to: end) { continue }
      while position < end {
        let next = text.endOfCharacter(at: position)
        if rewrite(to: next) { continue }
        result.append(contentsOf: text[position..<next])
        position = next
        offsets.move(upTo: position, to: result.count)
      }
    }
    return result
  }
}
