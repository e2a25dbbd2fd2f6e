import Foundation

/// A step that rewrites text before it is split.
enum NormalizerStep: Sendable {
  case nfc, nfd, nfkc, nfkd
  /// Adds bytes before a text that is not empty.
  case prepend([UInt8])
  /// Replaces every occurrence of the first by the second.
  case replace([UInt8], with: [UInt8])
  /// Replaces every match.
  case replaceMatches(SplitRegex, with: [UInt8])
  /// Rewrites character by character.
  case scalars(ScalarRewrite)
  /// Removes whitespace at the ends of a text.
  case strip(left: Bool, right: Bool)
  /// Applies SentencePiece's rules as `tokenizers` does.
  case charsmap(PrecompiledCharsmap)
  /// Does all that SentencePiece does.
  case sentencePiece(SentencePieceNormalizer)
}

struct Normalizer: Sendable {
  let steps: [NormalizerStep]

  /// The rewritten text; `nil` if the text stays as it is.
  /// - Parameter startsText: this is at the beginning of the whole text
  func normalize(_ text: UnsafeBufferPointer<UInt8>, startsText: Bool = true) -> [UInt8]? {
    var result: [UInt8]?
    for step in steps {
      if let current = result {
        if let next = current.withUnsafeBufferPointer({ apply(step, to: $0, startsText) }) { result = next }
      } else {
        result = apply(step, to: text, startsText)
      }
    }
    return result
  }

  func normalize(_ text: [UInt8]) -> [UInt8] { text.withUnsafeBufferPointer { normalize($0) } ?? text }

  /// As `normalize`, and moves offsets in the text to where they are in the result.
  /// - Parameter offsets: in bytes, ascending. An offset within a character, or within something that is replaced as a whole,
  ///   moves to its end.
  func normalize(
    _ text: UnsafeBufferPointer<UInt8>, startsText: Bool = true, moving offsets: inout [Int]
  ) -> [UInt8] {
    var result = Array(text)
    for step in steps {
      var map = OffsetMap(offsets)
      result = result.withUnsafeBufferPointer { text in
        switch step {
        case .nfc, .nfd, .nfkc, .nfkd:
          let (result, moved) = normalizeParts(step, text, offsets)
          map = OffsetMap(moved)
          return result
        case .prepend(let prefix):
          if text.isEmpty { return [] }
          map = OffsetMap(offsets.map { $0 + prefix.count })
          return prefix + text
        default: return rewrite(step, text, startsText, &map)
        }
      }
      offsets = map.offsets
    }
    return result
  }

  /// Whether the first character of a text that is not empty becomes something, so that what the text becomes is still at the
  /// beginning.
  func keepsStart(of text: UnsafeBufferPointer<UInt8>) -> Bool {
    if steps.isEmpty { return true }
    var end = 1
    while end < text.count && text[end] & 0xC0 == 0x80 { end += 1 }
    var offsets = [end]
    _ = normalize(text, moving: &offsets)
    return offsets[0] > 0
  }

  /// Normalizes the parts between the offsets one by one. An ASCII character never combines with a character before it, so
  /// every part is made to begin with one.
  private func normalizeParts(
    _ step: NormalizerStep, _ text: UnsafeBufferPointer<UInt8>, _ offsets: [Int]
  ) -> (text: [UInt8], offsets: [Int]) {
    var result: [UInt8] = []
    var moved: [Int] = []
    var start = 0
    func append(to end: Int) {
      let part = UnsafeBufferPointer(rebasing: text[start..<end])
      result += apply(step, to: part, false) ?? Array(part)
      start = end
    }
    for offset in offsets {
      var offset = max(offset, start)
      while offset < text.count, text[offset] >= 0x80 { offset += 1 }
      append(to: offset)
      moved.append(result.count)
    }
    append(to: text.count)
    return (result, moved)
  }

  private func apply(_ step: NormalizerStep, to text: UnsafeBufferPointer<UInt8>, _ startsText: Bool) -> [UInt8]? {
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
    case .replace(let old, _):
      guard let first = old.first, text.contains(first) else { return nil }
    case .scalars, .strip, .replaceMatches, .charsmap, .sentencePiece: break
    }
    var offsets = OffsetMap([])
    return rewrite(step, text, startsText, &offsets)
  }

  /// Applies a step that goes through the text once.
  private func rewrite(
    _ step: NormalizerStep, _ text: UnsafeBufferPointer<UInt8>, _ startsText: Bool, _ offsets: inout OffsetMap
  ) -> [UInt8] {
    switch step {
    case .nfc, .nfd, .nfkc, .nfkd, .prepend: Array(text)
    case .replace(let old, let new): text.replacing(old, with: new, &offsets)
    case .replaceMatches(let regex, let new): text.replacing(regex, with: new, &offsets)
    case .scalars(let rewriting): text.rewriting(rewriting, &offsets)
    case .strip(let left, let right): text.stripping(left: left, right: right, &offsets)
    case .charsmap(let charsmap): charsmap.rewriteClusters(text, &offsets)
    case .sentencePiece(let normalizer): normalizer.normalize(text, startsText: startsText, &offsets)
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
}
