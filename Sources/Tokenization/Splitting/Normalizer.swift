import Foundation

/// A step that rewrites text before it is split.
enum NormalizerStep: Sendable {
  case nfc, nfd, nfkc, nfkd
  /// Adds bytes before a text that is not empty.
  case prepend([UInt8])
  /// Replaces every occurrence of the first by the second.
  case replace([UInt8], with: [UInt8])
}

struct Normalizer: Sendable {
  let steps: [NormalizerStep]

  /// The rewritten text; `nil` if the text stays as it is.
  func normalize(_ text: UnsafeBufferPointer<UInt8>) -> [UInt8]? {
    var result: [UInt8]?
    for step in steps {
      if let current = result {
        if let next = current.withUnsafeBufferPointer({ apply(step, to: $0) }) { result = next }
      } else {
        result = apply(step, to: text)
      }
    }
    return result
  }

  func normalize(_ text: [UInt8]) -> [UInt8] { text.withUnsafeBufferPointer { normalize($0) } ?? text }

  /// As `normalize`, and moves offsets in the text to where they are in the result.
  /// - Parameter offsets: in bytes, ascending. An offset within a character, or within something that is replaced as a whole,
  ///   moves to its end.
  func normalize(_ text: UnsafeBufferPointer<UInt8>, moving offsets: inout [Int]) -> [UInt8] {
    var result = Array(text)
    for step in steps {
      result = result.withUnsafeBufferPointer { text in
        switch step {
        case .nfc, .nfd, .nfkc, .nfkd: normalizeParts(step, text, &offsets)
        case .prepend(let prefix):
          prepend(prefix, to: text, &offsets)
        case .replace(let old, let new): replace(old, with: new, in: text, &offsets)
        }
      }
    }
    return result
  }

  /// Normalizes the parts between the offsets one by one. An ASCII character never combines with a character before it, so
  /// every part is made to begin with one.
  private func normalizeParts(
    _ step: NormalizerStep, _ text: UnsafeBufferPointer<UInt8>, _ offsets: inout [Int]
  ) -> [UInt8] {
    var result: [UInt8] = []
    var start = 0
    func append(to end: Int) {
      let part = UnsafeBufferPointer(rebasing: text[start..<end])
      result += apply(step, to: part) ?? Array(part)
      start = end
    }
    for index in offsets.indices {
      var offset = max(offsets[index], start)
      while offset < text.count, text[offset] >= 0x80 { offset += 1 }
      append(to: offset)
      offsets[index] = result.count
    }
    append(to: text.count)
    return result
  }

  private func prepend(
    _ prefix: [UInt8], to text: UnsafeBufferPointer<UInt8>, _ offsets: inout [Int]
  ) -> [UInt8] {
    if text.isEmpty { return [] }
    offsets = offsets.map { $0 + prefix.count }
    return prefix + text
  }

  private func apply(_ step: NormalizerStep, to text: UnsafeBufferPointer<UInt8>) -> [UInt8]? {
    switch step {
    case .nfc:
      // Up to U+02FF every scalar is its own composed form and never combines with a scalar before it.
      if text.allSatisfy({ $0 < 0xCC }) { return nil }
      return composingHangul(utf8(text).precomposedStringWithCanonicalMapping)
    case .nfkc:
      if text.allSatisfy({ $0 < 0x80 }) { return nil }
      return composingHangul(utf8(text).precomposedStringWithCompatibilityMapping)
    case .nfd:
      if text.allSatisfy({ $0 < 0x80 }) { return nil }
      return Array(utf8(text).decomposedStringWithCanonicalMapping.utf8)
    case .nfkd:
      if text.allSatisfy({ $0 < 0x80 }) { return nil }
      return Array(utf8(text).decomposedStringWithCompatibilityMapping.utf8)
    case .prepend(let prefix): return text.isEmpty ? nil : prefix + text
    case .replace(let old, let new): return replace(old, with: new, in: text)
    }
  }

  private func utf8(_ text: UnsafeBufferPointer<UInt8>) -> String { String(decoding: text, as: UTF8.self) }

  /// Composes a Hangul syllable that has no final consonant with a final consonant after it (Unicode 15, section 3.12),
  /// which Foundation on Linux does not do.
  private func composingHangul(_ text: String) -> [UInt8] {
    let finals: ClosedRange<UInt32> = 0x11A8...0x11C2
    guard text.unicodeScalars.contains(where: { finals.contains($0.value) }) else { return Array(text.utf8) }
    var scalars: [Unicode.Scalar] = []
    for scalar in text.unicodeScalars {
      if finals.contains(scalar.value), let last = scalars.last?.value, (0xAC00...0xD7A3).contains(last),
        (last - 0xAC00) % 28 == 0, let syllable = Unicode.Scalar(last + scalar.value - 0x11A7)
      {
        scalars[scalars.count - 1] = syllable
      } else {
        scalars.append(scalar)
      }
    }
    return scalars.flatMap { Array(UTF8.encode($0) ?? UTF8.encodedReplacementCharacter) }
  }

  private func replace(_ old: [UInt8], with new: [UInt8], in text: UnsafeBufferPointer<UInt8>) -> [UInt8]? {
    guard let first = old.first, text.contains(first) else { return nil }
    var offsets: [Int] = []
    return replace(old, with: new, in: text, &offsets)
  }

  private func replace(
    _ old: [UInt8], with new: [UInt8], in text: UnsafeBufferPointer<UInt8>, _ offsets: inout [Int]
  ) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(text.count + text.count / 2)
    var position = 0
    var next = 0
    func move() {
      while next < offsets.count, offsets[next] <= position {
        offsets[next] = result.count
        next += 1
      }
    }
    move()
    while position < text.count {
      if text[position] == old.first, text[position...].starts(with: old) {
        result.append(contentsOf: new)
        position += old.count
      } else {
        result.append(text[position])
        position += 1
      }
      move()
    }
    return result
  }
}
