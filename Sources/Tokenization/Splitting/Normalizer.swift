import Foundation

/// Rewrites text before it is cut into pieces.
enum NormalizerStep: Sendable {
  case nfc, nfd, nfkc, nfkd
  /// Put before any text that is not empty.
  case prepend([UInt8])
  /// Every occurrence of the first becomes the second.
  case replace([UInt8], with: [UInt8])
}

struct Normalizer: Sendable {
  let steps: [NormalizerStep]

  /// `nil` when the text stays as it is.
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

  /// As `normalize`, and puts places of the text where they are in what comes out.
  /// - Parameter places: byte offsets, ascending. One within a character, or within what a step replaces as one, moves
  ///   behind it.
  func normalize(_ text: UnsafeBufferPointer<UInt8>, moving places: inout [Int]) -> [UInt8] {
    var result = Array(text)
    for step in steps {
      result = result.withUnsafeBufferPointer { text in
        switch step {
        case .nfc, .nfd, .nfkc, .nfkd: normalizeParts(step, text, &places)
        case .prepend(let prefix):
          prepend(prefix, to: text, &places)
        case .replace(let old, let new): replace(old, with: new, in: text, &places)
        }
      }
    }
    return result
  }

  /// Normalizes the parts between the places one by one. An ASCII character never combines with what stands before it, so
  /// each part is made to begin with one.
  private func normalizeParts(
    _ step: NormalizerStep, _ text: UnsafeBufferPointer<UInt8>, _ places: inout [Int]
  ) -> [UInt8] {
    var result: [UInt8] = []
    var start = 0
    func append(to end: Int) {
      let part = UnsafeBufferPointer(rebasing: text[start..<end])
      result += apply(step, to: part) ?? Array(part)
      start = end
    }
    for index in places.indices {
      var place = max(places[index], start)
      while place < text.count, text[place] >= 0x80 { place += 1 }
      append(to: place)
      places[index] = result.count
    }
    append(to: text.count)
    return result
  }

  private func prepend(
    _ prefix: [UInt8], to text: UnsafeBufferPointer<UInt8>, _ places: inout [Int]
  ) -> [UInt8] {
    if text.isEmpty { return [] }
    places = places.map { $0 + prefix.count }
    return prefix + text
  }

  private func apply(_ step: NormalizerStep, to text: UnsafeBufferPointer<UInt8>) -> [UInt8]? {
    switch step {
    case .nfc:
      // Up to U+02FF every scalar is its own composed form and combines with nothing before it.
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

  /// Foundation on Linux leaves a Hangul syllable without final consonant and the final behind it apart; this
  /// composes them (Unicode 15, section 3.12).
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
    var places: [Int] = []
    return replace(old, with: new, in: text, &places)
  }

  private func replace(
    _ old: [UInt8], with new: [UInt8], in text: UnsafeBufferPointer<UInt8>, _ places: inout [Int]
  ) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(text.count + text.count / 2)
    var position = 0
    var next = 0
    func move() {
      while next < places.count, places[next] <= position {
        places[next] = result.count
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
