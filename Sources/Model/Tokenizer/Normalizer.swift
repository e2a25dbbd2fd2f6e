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

  private func apply(_ step: NormalizerStep, to text: UnsafeBufferPointer<UInt8>) -> [UInt8]? {
    switch step {
    case .nfc:
      // Up to U+02FF every scalar is its own composed form and combines with nothing before it.
      if text.allSatisfy({ $0 < 0xCC }) { return nil }
      return utf8(text).precomposedStringWithCanonicalMapping.utf8.map { $0 }
    case .nfkc:
      if text.allSatisfy({ $0 < 0x80 }) { return nil }
      return utf8(text).precomposedStringWithCompatibilityMapping.utf8.map { $0 }
    case .nfd:
      if text.allSatisfy({ $0 < 0x80 }) { return nil }
      return utf8(text).decomposedStringWithCanonicalMapping.utf8.map { $0 }
    case .nfkd:
      if text.allSatisfy({ $0 < 0x80 }) { return nil }
      return utf8(text).decomposedStringWithCompatibilityMapping.utf8.map { $0 }
    case .prepend(let prefix): return text.isEmpty ? nil : prefix + text
    case .replace(let old, let new): return replace(old, with: new, in: text)
    }
  }

  private func utf8(_ text: UnsafeBufferPointer<UInt8>) -> String { String(decoding: text, as: UTF8.self) }

  private func replace(_ old: [UInt8], with new: [UInt8], in text: UnsafeBufferPointer<UInt8>) -> [UInt8]? {
    guard let first = old.first, text.contains(first) else { return nil }
    var result: [UInt8] = []
    result.reserveCapacity(text.count + text.count / 2)
    var position = 0
    while position < text.count {
      if text[position] == first, text[position...].starts(with: old) {
        result.append(contentsOf: new)
        position += old.count
      } else {
        result.append(text[position])
        position += 1
      }
    }
    return result
  }
}
