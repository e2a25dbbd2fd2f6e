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
  /// - Parameters:
  ///   - offsets: in bytes, ascending. An offset within a character, or within something that is replaced as a whole, moves to
  ///     its end.
  ///   - start: how many bytes stand for the first character of the whole text; 0 if the text is not at its beginning
  func normalize(
    _ text: UnsafeBufferPointer<UInt8>, startsText: Bool, moving offsets: inout [Int], start: inout Int
  ) -> [UInt8] {
    var result = Array(text)
    for step in steps {
      result = result.withUnsafeBufferPointer { text in
        switch step {
        case .nfc, .nfd, .nfkc, .nfkd:
          let (result, moved) = normalizeParts(step, text, offsets)
          start = movedStart(step, text, start, result)
          offsets = moved
          return result
        case .prepend(let prefix):
          if text.isEmpty { return [] }
          if start > 0 { start += prefix.count }
          offsets = offsets.map { $0 + prefix.count }
          return prefix + text
        default:
          var map = OffsetMap(offsets, start: start)
          let result = rewrite(step, text, startsText, &map)
          (offsets, start) = (map.offsets, map.newStart)
          return result
        }
      }
    }
    return result
  }

  /// Where a composing or decomposing step leaves `start`. Whatever follows, the first characters become as many as alone; but
  /// marks of theirs may be ordered behind marks that follow.
  private func movedStart(
    _ step: NormalizerStep, _ text: UnsafeBufferPointer<UInt8>, _ start: Int, _ result: [UInt8]
  ) -> Int {
    let first = UnsafeBufferPointer(rebasing: text[..<start])
    let alone = apply(step, to: first, false) ?? Array(first)
    switch step {
    case .nfd, .nfkd:
      var end = zip(alone, result).prefix { $0 == $1 }.count
      while end < result.count, result[end] & 0xC0 == 0x80 { end -= 1 }
      return end
    default:
      let count = alone.count(where: { $0 & 0xC0 != 0x80 })
      return result.withUnsafeBufferPointer { result in
        (0..<count).reduce(0) { end, _ in result.endOfCharacter(at: end) }
      }
    }
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
      return composing(text, \.precomposedStringWithCanonicalMapping)
    case .nfkc:
      if text.allSatisfy({ $0 < 0x80 }) { return nil }
      return composing(text, \.precomposedStringWithCompatibilityMapping)
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

  /// Composes a text. Foundation on Linux takes the jamo next to those of modern syllables (U+1113, U+1176, U+11A7) for such, so
  /// what is between them is composed alone: they compose with nothing.
  private func composing(_ text: UnsafeBufferPointer<UInt8>, _ compose: (String) -> String) -> [UInt8] {
    let text = utf8(text)
    func isAlone(_ scalar: Unicode.Scalar) -> Bool {
      scalar.value == 0x1113 || scalar.value == 0x1176 || scalar.value == 0x11A7
    }
    guard text.unicodeScalars.contains(where: isAlone) else { return composingHangul(compose(text)) }
    var result = String.UnicodeScalarView()
    var part = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
      part.append(scalar)
      guard isAlone(scalar) else { continue }
      part.removeLast()
      result += compose(String(part)).unicodeScalars
      result.append(scalar)
      part.removeAll()
    }
    return composingHangul(String(result + compose(String(part)).unicodeScalars))
  }

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
