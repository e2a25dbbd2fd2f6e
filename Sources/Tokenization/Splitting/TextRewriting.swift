/// How single characters are rewritten, as the normalizers of `tokenizers` with these names do.
enum ScalarRewrite: Sendable {
  /// Each becomes its lower case, whatever is beside it.
  case lowercase
  /// Combining marks are removed.
  case stripAccents
  /// Control characters are removed, and all kinds of spaces become a space.
  case nmt

  func append(_ scalar: Unicode.Scalar, to result: inout [UInt8]) {
    func append(_ scalars: some Sequence<Unicode.Scalar>) {
      for scalar in scalars { result.append(contentsOf: UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter) }
    }
    switch self {
    case .lowercase: append(scalar.properties.lowercaseMapping.unicodeScalars)
    case .stripAccents:
      switch scalar.properties.generalCategory {
      case .nonspacingMark, .spacingMark, .enclosingMark: break
      default: append(CollectionOfOne(scalar))
      }
    case .nmt:
      switch scalar.value {
      case 0x01...0x08, 0x0B, 0x0E...0x1F, 0x7F, 0x8F, 0x9F: break
      case 0x09, 0x0A, 0x0C, 0x0D, 0x1680, 0x200B...0x200F, 0x2028, 0x2029, 0x2581, 0xFEFF, 0xFFFD:
        append(CollectionOfOne(" "))
      default: append(CollectionOfOne(scalar))
      }
    }
  }
}

extension UnsafeBufferPointer<UInt8> {
  /// The text with each occurrence of `old` replaced by `new`.
  func replacing(_ old: [UInt8], with new: [UInt8], _ offsets: inout OffsetMap) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(count + count / 2)
    var position = 0
    offsets.move(upTo: 0, to: 0)
    while position < count {
      if self[position] == old.first, self[position...].starts(with: old) {
        result.append(contentsOf: new)
        position += old.count
      } else {
        result.append(self[position])
        position += 1
      }
      offsets.move(upTo: position, to: result.count)
    }
    return result
  }

  /// The text with each match replaced by `new`.
  func replacing(_ regex: SplitRegex, with new: [UInt8], _ offsets: inout OffsetMap) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(count)
    var position = 0
    func copy(to end: Int) {
      while position < end {
        offsets.move(upTo: position, to: result.count)
        result.append(self[position])
        position += 1
      }
      offsets.move(upTo: position, to: result.count)
    }
    regex.forEachMatch(in: self, using: SplitRegex.Workspace()) { match in
      copy(to: match.lowerBound)
      result.append(contentsOf: new)
      position = match.upperBound
      offsets.move(upTo: position, to: result.count)
    }
    copy(to: count)
    return result
  }

  func rewriting(_ rewriting: ScalarRewrite, _ offsets: inout OffsetMap) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(count)
    var position = 0
    offsets.move(upTo: 0, to: 0)
    for scalar in String(decoding: self, as: UTF8.self).unicodeScalars {
      rewriting.append(scalar, to: &result)
      position += UTF8.width(scalar)
      offsets.move(upTo: position, to: result.count)
    }
    return result
  }

  /// The text without whitespace at its ends.
  func stripping(left: Bool, right: Bool, _ offsets: inout OffsetMap) -> [UInt8] {
    let scalars = String(decoding: self, as: UTF8.self).unicodeScalars
    var kept = scalars[...]
    if left { kept = kept.drop { $0.properties.isWhitespace } }
    while right, let last = kept.last, last.properties.isWhitespace { kept.removeLast() }
    let start = scalars[..<kept.startIndex].reduce(0) { $0 + UTF8.width($1) }
    let result = Array(String(kept).utf8)
    for end in start..<start + result.count { offsets.move(upTo: end, to: end - start) }
    offsets.move(upTo: count, to: result.count)
    return result
  }
}
