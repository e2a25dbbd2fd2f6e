extension Text {
  /// Where `needle` first occurs at `start` or after it.
  func find(_ needle: Text, from start: Int) -> Int? { ByteSearch.first(needle.bytes, in: bytes, from: start) }

  /// The starts of up to `limit` occurrences that do not overlap. An empty needle occurs at every code point and at the end.
  func occurrences(of needle: Text, in range: Range<Int>? = nil, limit: Int) -> [Int] {
    let range = range ?? 0..<bytes.count
    var result: [Int] = []
    var index = range.lowerBound
    while result.count < limit, let found = find(needle, from: index), found + needle.bytes.count <= range.upperBound {
      result.append(found)
      if needle.isEmpty {
        guard found < range.upperBound else { break }
        index = found + UTF8Bytes.length(lead: bytes[found])
      } else {
        index = found + needle.bytes.count
      }
    }
    return result
  }

  func hasPrefix(_ prefix: Text, in range: Range<Int>) -> Bool {
    range.count >= prefix.bytes.count && bytes[range].starts(with: prefix.bytes)
  }

  func hasSuffix(_ suffix: Text, in range: Range<Int>) -> Bool {
    range.count >= suffix.bytes.count && bytes[range].suffix(suffix.bytes.count).elementsEqual(suffix.bytes)
  }

  /// Without the characters of `set`, by default white space, at the left or right side or both.
  func stripped(_ set: Text?, left: Bool = true, right: Bool = true) -> Text {
    let scalars = set.map { Set(String(decoding: $0.bytes, as: UTF8.self).unicodeScalars) }
    func isStripped(_ scalar: Unicode.Scalar) -> Bool { scalars?.contains(scalar) ?? scalar.isPythonSpace }
    var start = 0
    var end = bytes.count
    while left, start < end {
      let (scalar, next) = UTF8Bytes.scalar(bytes, at: start)
      guard isStripped(scalar) else { break }
      start = next
    }
    while right, end > start {
      let (scalar, previous) = UTF8Bytes.scalar(bytes, before: end)
      guard isStripped(scalar) else { break }
      end = previous
    }
    return self[start..<end]
  }

  /// Words between white space. After `limit` words, one more range holds the rest of the text.
  func words(limit: Int) -> [Range<Int>] {
    var result: [Range<Int>] = []
    var index = 0
    while true {
      while index < bytes.count {
        let (scalar, next) = UTF8Bytes.scalar(bytes, at: index)
        guard scalar.isPythonSpace else { break }
        index = next
      }
      guard index < bytes.count else { return result }
      if result.count >= limit {
        result.append(index..<bytes.count)
        return result
      }
      let start = index
      while index < bytes.count {
        let (scalar, next) = UTF8Bytes.scalar(bytes, at: index)
        if scalar.isPythonSpace { break }
        index = next
      }
      result.append(start..<index)
    }
  }

  /// As `words`, but counted from the end. The result is in the order of the text.
  func wordsFromEnd(limit: Int) -> [Range<Int>] {
    var result: [Range<Int>] = []
    var index = bytes.count
    while true {
      while index > 0 {
        let (scalar, previous) = UTF8Bytes.scalar(bytes, before: index)
        guard scalar.isPythonSpace else { break }
        index = previous
      }
      guard index > 0 else { break }
      if result.count >= limit {
        result.append(0..<index)
        break
      }
      let end = index
      while index > 0 {
        let (scalar, previous) = UTF8Bytes.scalar(bytes, before: index)
        if scalar.isPythonSpace { break }
        index = previous
      }
      result.append(index..<end)
    }
    return result.reversed()
  }

  /// Python's `str.splitlines`.
  func lines(keepsEnds: Bool) -> [Range<Int>] {
    var result: [Range<Int>] = []
    var start = 0
    var index = 0
    while index < bytes.count {
      let (scalar, next) = UTF8Bytes.scalar(bytes, at: index)
      switch scalar.value {
      case 0x0A, 0x0B, 0x0C, 0x0D, 0x1C, 0x1D, 0x1E, 0x85, 0x2028, 0x2029:
        let end = scalar.value == 0x0D && next < bytes.count && bytes[next] == 0x0A ? next + 1 : next
        result.append(start..<(keepsEnds ? end : index))
        start = end
        index = end
      default: index = next
      }
    }
    if start < bytes.count { result.append(start..<bytes.count) }
    return result
  }

  /// Replaces code points.
  /// - Parameter transform: the replacement of a code point, or `nil` to keep it. It also gets whether the code point before
  ///   it is a cased letter, and its index
  func mapped(_ transform: (Unicode.Scalar, _ afterLetter: Bool, _ index: Int) -> String?) -> Text {
    var result = Text()
    result.isMarkup = isMarkup
    result.bytes.reserveCapacity(bytes.count)
    var index = 0
    var plain = 0
    var afterLetter = false
    while index < bytes.count {
      let (scalar, next) = UTF8Bytes.scalar(bytes, at: index)
      if let replacement = transform(scalar, afterLetter, index) {
        result.append(self, plain..<index)
        result.append(Array(replacement.utf8), for: self, index..<next)
        plain = next
      }
      afterLetter = scalar.properties.isCased
      index = next
    }
    result.append(self, plain..<bytes.count)
    return result
  }

  func uppercased() -> Text {
    mapped { scalar, _, _ in
      if scalar.value < 0x80 {
        return (97...122).contains(scalar.value) ? scalar.properties.uppercaseMapping : nil
      }
      return scalar.properties.uppercaseMapping
    }
  }

  func lowercased() -> Text {
    mapped { scalar, afterLetter, index in self.lowercase(scalar, afterLetter, index) }
  }

  /// Lower case. A Greek sigma at the end of a word gets its final form.
  private func lowercase(_ scalar: Unicode.Scalar, _ afterLetter: Bool, _ index: Int) -> String? {
    if scalar.value < 0x80 {
      return (65...90).contains(scalar.value) ? scalar.properties.lowercaseMapping : nil
    }
    if scalar == "Σ", afterLetter {
      let next = index + 2
      let isFinal = next >= bytes.count || !UTF8Bytes.scalar(bytes, at: next).scalar.properties.isCased
      return isFinal ? "ς" : "σ"
    }
    return scalar.properties.lowercaseMapping
  }

  /// Python's `str.title`: a letter after a letter becomes lower case, any other upper case.
  func titlecased() -> Text {
    mapped { scalar, afterLetter, index in
      afterLetter ? self.lowercase(scalar, afterLetter, index) : scalar.properties.titlecaseMapping
    }
  }

  func capitalized() -> Text {
    mapped { scalar, afterLetter, index in
      index == 0 ? scalar.properties.titlecaseMapping : self.lowercase(scalar, afterLetter, index)
    }
  }

  /// jinja2's `title`: the first letter of a word becomes upper case, the rest lower case. White space and `-({[<` separate
  /// words.
  func wordsCapitalized() -> Text {
    var startsWord = true
    return mapped { scalar, afterLetter, index in
      let separates = scalar.isPythonSpace || ["-", "(", "{", "[", "<"].contains(scalar)
      defer { startsWord = separates }
      if separates { return nil }
      return startsWord ? scalar.properties.uppercaseMapping : self.lowercase(scalar, afterLetter, index)
    }
  }
}
