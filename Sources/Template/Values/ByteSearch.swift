/// Finds bytes in bytes. The time grows with the sum of both lengths, not their product, whatever the bytes are.
package enum ByteSearch {
  /// Where `pattern` first occurs at `start` or after it; `nil` if it does not.
  package static func first(_ pattern: [UInt8], in bytes: [UInt8], from start: Int = 0) -> Int? {
    guard !pattern.isEmpty else { return start <= bytes.count ? start : nil }
    guard bytes.count - start >= pattern.count else { return nil }
    return bytes.withUnsafeBufferPointer { text in
      pattern.withUnsafeBufferPointer { pattern in
        pattern.count <= 3 ? findShort(pattern, in: text, from: start) : findLong(pattern, in: text, from: start)
      }
    }
  }

  /// Where `pattern` occurs last; `nil` if it does not.
  package static func last(_ pattern: [UInt8], in bytes: [UInt8]) -> Int? {
    first(pattern.reversed(), in: bytes.reversed()).map { bytes.count - pattern.count - $0 }
  }

  private static func findShort(
    _ pattern: UnsafeBufferPointer<UInt8>, in text: UnsafeBufferPointer<UInt8>, from start: Int
  ) -> Int? {
    var index = start
    let last = text.count - pattern.count
    while index <= last {
      if text[index] == pattern[0] {
        var matched = 1
        while matched < pattern.count, text[index + matched] == pattern[matched] { matched += 1 }
        if matched == pattern.count { return index }
      }
      index += 1
    }
    return nil
  }

  /// Knuth, Morris and Pratt's search.
  private static func findLong(
    _ pattern: UnsafeBufferPointer<UInt8>, in text: UnsafeBufferPointer<UInt8>, from start: Int
  ) -> Int? {
    var fallback = [Int](repeating: 0, count: pattern.count)
    var matched = 0
    for index in 1..<pattern.count {
      while matched > 0, pattern[index] != pattern[matched] { matched = fallback[matched - 1] }
      if pattern[index] == pattern[matched] { matched += 1 }
      fallback[index] = matched
    }
    matched = 0
    for index in start..<text.count {
      while matched > 0, text[index] != pattern[matched] { matched = fallback[matched - 1] }
      if text[index] == pattern[matched] { matched += 1 }
      if matched == pattern.count { return index - pattern.count + 1 }
    }
    return nil
  }
}
