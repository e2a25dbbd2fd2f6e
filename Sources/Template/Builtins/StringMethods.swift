extension Interpreter {
  func call(_ method: Method, on text: Text, _ arguments: CallArguments) throws(TemplateError) -> Value {
    let name = method.rawValue
    try read(text.bytes.count)
    switch method {
    case .format: return .string(try format(text, arguments))
    case .split, .rsplit: return try split(text, arguments, fromEnd: method == .rsplit)
    case .splitlines:
      let keeps = try bind(arguments, ["keepends"], required: 0, in: name)[0]?.isTrue ?? false
      return try lines(text, keepsEnds: keeps)
    default: break
    }
    guard arguments.keywords.isEmpty else { throw fail("str.\(name)() takes no keyword arguments") }
    let given = arguments.positional
    func count(_ range: ClosedRange<Int>) throws(TemplateError) {
      guard range.contains(given.count) else {
        throw fail("\(name)() takes \(range.lowerBound) to \(range.upperBound) arguments (\(given.count) given)")
      }
    }
    switch method {
    case .strip, .lstrip, .rstrip:
      try count(0...1)
      var set: Text?
      if let value = given.first { if case .none = value {} else { set = try string(value, in: name) } }
      return .string(try stripped(text, set, left: method != .rstrip, right: method != .lstrip))
    case .startswith, .endswith:
      try count(1...3)
      return .bool(try hasAffix(text, given, isPrefix: method == .startswith))
    case .replace:
      try count(2...3)
      let limit = given.count > 2 ? try integer(given[2], in: name) : -1
      return .string(
        try replace(text, try string(given[0], in: name), with: try string(given[1], in: name), limit: limit))
    case .join:
      try count(1...1)
      return .string(try joined(try iterate(given[0]), separator: text, printsAll: false))
    case .find, .rfind, .index, .rindex, .count:
      try count(1...3)
      return try search(text, method, given)
    case .partition, .rpartition:
      try count(1...1)
      return try partition(text, at: try string(given[0], in: name), fromEnd: method == .rpartition)
    case .removeprefix, .removesuffix:
      try count(1...1)
      let part = try string(given[0], in: name)
      let all = 0..<text.bytes.count
      try allocate(text.bytes.count)
      if method == .removeprefix {
        return .string(text.hasPrefix(part, in: all) ? text[part.bytes.count..<text.bytes.count] : text)
      }
      return .string(
        !part.isEmpty && text.hasSuffix(part, in: all) ? text[0..<(text.bytes.count - part.bytes.count)] : text)
    case .center, .ljust, .rjust, .zfill:
      try count(1...(method == .zfill ? 1 : 2))
      let width = try integer(given[0], in: name)
      let fill = given.count > 1 ? try string(given[1], in: name) : Text(method == .zfill ? "0" : " ")
      guard UTF8Bytes.count(fill.bytes) == 1 else {
        throw fail("the fill character must be exactly one character long")
      }
      return .string(try padded(text, method, width: width, fill: fill))
    case .expandtabs:
      try count(0...1)
      return .string(
        try expandTabs(
          text,
          size: try given.first.map { value throws(TemplateError) in
            try integer(value, in: name)
          } ?? 8))
    default:
      try count(0...0)
      return try converted(text, method)
    }
  }

  private func converted(_ text: Text, _ method: Method) throws(TemplateError) -> Value {
    try allocate(text)
    // Reading the properties of a character takes longer than reading its bytes.
    try charge(text.bytes.count)
    switch method {
    case .upper: return .string(text.uppercased())
    case .lower: return .string(text.lowercased())
    case .casefold:
      return .string(
        text.mapped { scalar, _, _ in
          scalar == "ß" ? "ss" : scalar == "ς" ? "σ" : scalar.properties.lowercaseMapping
        })
    case .title: return .string(text.titlecased())
    case .capitalize: return .string(text.capitalized())
    case .swapcase:
      return .string(
        text.mapped { scalar, _, _ in
          scalar.properties.isUppercase ? scalar.properties.lowercaseMapping : scalar.properties.uppercaseMapping
        })
    default: return .bool(text.satisfies(method))
    }
  }

  /// Without the characters of `set`, by default white space, at the left or right side or both.
  func stripped(_ text: Text, _ set: Text?, left: Bool = true, right: Bool = true) throws(TemplateError) -> Text {
    try allocate(text.bytes.count + (set?.bytes.count ?? 0) * 16)
    let result = text.stripped(set, left: left, right: right)
    try charge(text.bytes.count - result.bytes.count)
    return result
  }

  private func hasAffix(_ text: Text, _ given: [Value], isPrefix: Bool) throws(TemplateError) -> Bool {
    let name = isPrefix ? "startswith" : "endswith"
    guard let range = try byteRange(text, Array(given.dropFirst()), in: name) else { return false }
    var candidates = [given[0]]
    if case .tuple(let list) = given[0] { candidates = list.items }
    for candidate in candidates {
      guard case .string(let affix) = candidate else {
        throw fail("\(name) first arg must be str or a tuple of str, not \(candidate.typeName)")
      }
      try read(affix.bytes.count)
      if isPrefix ? text.hasPrefix(affix, in: range) : text.hasSuffix(affix, in: range) { return true }
    }
    return false
  }

  /// The bytes between two bounds in code points, as Python's methods take them; `nil` if the first is beyond the end.
  private func byteRange(_ text: Text, _ bounds: [Value], in function: String) throws(TemplateError) -> Range<Int>? {
    var indices: [Int?] = []
    for bound in bounds {
      if case .none = bound { indices.append(nil) } else { indices.append(try integer(bound, in: function)) }
    }
    guard indices.contains(where: { $0 != nil }) else { return 0..<text.bytes.count }
    let ends = try boundaries(text)
    let count = ends.count - 1
    func bounded(_ index: Int) -> Int { max(index < 0 ? index + count : index, 0) }
    let start = (indices.first ?? nil).map(bounded) ?? 0
    let stop = min((indices.count > 1 ? indices[1] : nil).map(bounded) ?? count, count)
    guard start <= count else { return nil }
    return start <= stop ? ends[start]..<ends[stop] : nil
  }

  func replace(_ text: Text, _ old: Text, with new: Text, limit: Int) throws(TemplateError) -> Text {
    try read(text.bytes.count)
    let maximum = limit < 0 ? Int.max : limit
    let found = text.occurrences(of: old, limit: min(maximum, remainingElements))
    try allocate(elements: found.count)
    let (added, overflow) = found.count.multipliedReportingOverflow(by: new.bytes.count)
    guard !overflow else { throw self.limit("rendering makes more than \(limits.allocatedBytes) bytes of values") }
    try allocate(text.bytes.count + added)
    var result = Text()
    result.isMarkup = text.isMarkup
    var start = 0
    for offset in found {
      result.append(text, start..<offset)
      let end = offset + old.bytes.count
      // What replaces a part of a message belongs to the message too.
      let source = text.source(of: offset..<end)
      result.append(source >= 0 && !old.isEmpty && new.marks.isEmpty ? Text(bytes: new.bytes, source: source) : new)
      start = end
    }
    result.append(text, start..<text.bytes.count)
    return result
  }

  private func split(_ text: Text, _ arguments: CallArguments, fromEnd: Bool) throws(TemplateError) -> Value {
    let values = try bind(arguments, ["sep", "maxsplit"], required: 0, in: fromEnd ? "rsplit" : "split")
    let given = try values[1].map { value throws(TemplateError) in try integer(value, in: "split") } ?? -1
    let maximum = given < 0 ? Int.max : given
    let remaining = remainingElements
    var ranges: [Range<Int>] = []
    switch values[0] ?? .none {
    case .none:
      ranges = fromEnd ? text.wordsFromEnd(limit: min(maximum, remaining)) : text.words(limit: min(maximum, remaining))
    case .string(let separator):
      guard !separator.isEmpty else { throw fail("empty separator") }
      var found: [Int]
      if fromEnd, maximum != Int.max {
        found = text.lastOccurrences(of: separator, limit: min(maximum, remaining))
      } else {
        found = text.occurrences(of: separator, limit: min(maximum, remaining))
      }
      var start = 0
      for offset in found {
        ranges.append(start..<offset)
        start = offset + separator.bytes.count
      }
      ranges.append(start..<text.bytes.count)
    case let other: throw fail("must be str or None, not \(other.typeName)")
    }
    try allocate(elements: ranges.count)
    try allocate(text)
    return .list(List(ranges.map { .string(text[$0]) }))
  }

  func lines(_ text: Text, keepsEnds: Bool) throws(TemplateError) -> Value {
    try allocate(text)
    let ranges = text.lines(keepsEnds: keepsEnds)
    try allocate(elements: ranges.count)
    return .list(List(ranges.map { .string(text[$0]) }))
  }

  private func partition(_ text: Text, at separator: Text, fromEnd: Bool) throws(TemplateError) -> Value {
    guard !separator.isEmpty else { throw fail("empty separator") }
    try allocate(text.bytes.count)
    let found = fromEnd ? text.lastOccurrences(of: separator, limit: 1).first : text.find(separator, from: 0)
    guard let found else {
      let parts: [Text] = fromEnd ? [Text(), Text(), text] : [text, Text(), Text()]
      return .tuple(List(parts.map { .string($0) }))
    }
    let end = found + separator.bytes.count
    return .tuple(
      List([.string(text[0..<found]), .string(text[found..<end]), .string(text[end..<text.bytes.count])]))
  }

  private func search(_ text: Text, _ method: Method, _ given: [Value]) throws(TemplateError) -> Value {
    let needle = try string(given[0], in: method.rawValue)
    var found: Int?
    if let range = try byteRange(text, Array(given.dropFirst()), in: method.rawValue) {
      if method == .count {
        let remaining = remainingElements
        return .int(text.occurrences(of: needle, in: range, limit: remaining).count)
      }
      if method == .find || method == .index {
        found = text.find(needle, from: range.lowerBound).flatMap {
          $0 + needle.bytes.count <= range.upperBound ? $0 : nil
        }
      } else {
        found = text[range].lastOccurrences(of: needle, limit: 1).first.map { $0 + range.lowerBound }
      }
    } else if method == .count {
      return .int(0)
    }
    if let found { return .int(text.bytes[..<found].count { !UTF8Bytes.isContinuation($0) }) }
    guard method == .find || method == .rfind else { throw fail("substring not found") }
    return .int(-1)
  }

  /// `separator.join(items)`.
  /// - Parameter printsAll: whether items that are no strings are printed, as the filter does; the method refuses them
  func joined(_ items: [Value], separator: Text, printsAll: Bool) throws(TemplateError) -> Text {
    var result = Text()
    for (offset, item) in items.enumerated() {
      var part: Text
      if case .string(let text) = item {
        part = text
      } else if printsAll {
        part = try text(of: item)
      } else {
        throw fail("sequence item \(offset): expected str instance, \(item.typeName) found")
      }
      part.isMarkup = false
      try allocate(part)
      try allocate(separator)
      if offset > 0 { result.append(separator) }
      result.append(part)
    }
    return result
  }

  func padded(_ text: Text, _ method: Method, width: Int, fill: Text) throws(TemplateError) -> Text {
    let missing = max(0, width.subtractingReportingOverflow(UTF8Bytes.count(text.bytes)).partialValue)
    guard missing > 0, width > 0 else { return text }
    let (bytes, overflow) = missing.multipliedReportingOverflow(by: fill.bytes.count)
    try allocate(overflow ? Int.max : bytes)
    func filled(_ count: Int) -> Text {
      var result = Text()
      for _ in 0..<count { result.append(fill) }
      return result
    }
    let left: Int
    switch method {
    case .ljust: left = 0
    case .center: left = missing / 2 + (missing & width & 1)
    default: left = missing
    }
    var result = Text()
    var body = text
    if method == .zfill, let sign = text.bytes.first, [UInt8(ascii: "-"), UInt8(ascii: "+")].contains(sign) {
      result.append(text, 0..<1)
      body = text[1..<text.bytes.count]
    }
    result.append(filled(left))
    result.append(body)
    result.append(filled(missing - left))
    return result
  }

  private func expandTabs(_ text: Text, size: Int) throws(TemplateError) -> Text {
    var result = Text()
    var column = 0
    for (start, end) in zip(try boundaries(text), try boundaries(text).dropFirst()) {
      switch text.bytes[start] {
      case 9:
        let width = size > 0 ? size - column % size : 0
        try allocate(width)
        result.bytes.append(contentsOf: repeatElement(UInt8(ascii: " "), count: width))
        column += width
      case 10, 13:
        column = 0
        result.append(text, start..<end)
      default:
        column += 1
        result.append(text, start..<end)
      }
    }
    return result
  }
}

extension Text {
  /// The starts of the last occurrences that do not overlap, found from the end, in the order of the text.
  func lastOccurrences(of needle: Text, limit: Int) -> [Int] {
    guard !needle.isEmpty else { return limit > 0 ? [bytes.count] : [] }
    let reversedText = Text(bytes: bytes.reversed())
    let reversedNeedle = Text(bytes: needle.bytes.reversed())
    return reversedText.occurrences(ofBytes: reversedNeedle, limit: limit)
      .map { bytes.count - $0 - needle.bytes.count }.reversed()
  }

  private func occurrences(ofBytes needle: Text, limit: Int) -> [Int] {
    var result: [Int] = []
    var index = 0
    while result.count < limit, let found = find(needle, from: index) {
      result.append(found)
      index = found + needle.bytes.count
    }
    return result
  }

  /// Python's methods `str.isalpha`, `str.isupper` and so on.
  func satisfies(_ method: Method) -> Bool {
    let scalars = string.unicodeScalars
    func all(_ holds: (Unicode.Scalar) -> Bool) -> Bool { !scalars.isEmpty && scalars.allSatisfy(holds) }
    switch method {
    case .isascii: return scalars.allSatisfy(\.isASCII)
    case .isspace: return all(\.isPythonSpace)
    case .isalpha: return all(\.isPythonLetter)
    case .isdecimal: return all { $0.properties.numericType == .decimal }
    case .isdigit: return all { $0.properties.numericType == .decimal || $0.properties.numericType == .digit }
    case .isnumeric: return all { $0.properties.numericType != nil }
    case .isalnum: return all { $0.isPythonLetter || $0.properties.numericType != nil }
    case .islower: return scalars.contains { $0.properties.isLowercase } && !scalars.contains { $0.isUpperOrTitle }
    case .isupper:
      return scalars.contains { $0.properties.isUppercase } && !scalars.contains { $0.properties.isLowercase }
    case .istitle:
      var afterLetter = false
      var isAny = false
      for scalar in scalars {
        if scalar.isUpperOrTitle {
          if afterLetter { return false }
          isAny = true
        } else if scalar.properties.isLowercase, !afterLetter {
          return false
        }
        afterLetter = scalar.properties.isCased
      }
      return isAny
    case .isidentifier:
      guard let first = scalars.first, first == "_" || first.properties.isXIDStart else { return false }
      return scalars.allSatisfy { $0 == "_" || $0.properties.isXIDContinue }
    case .isprintable:
      return scalars.allSatisfy {
        switch $0.properties.generalCategory {
        case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator: false
        case .spaceSeparator: $0 == " "
        default: true
        }
      }
    default: return false
    }
  }
}

extension Unicode.Scalar {
  fileprivate var isUpperOrTitle: Bool {
    properties.isUppercase || properties.generalCategory == .titlecaseLetter
  }

  fileprivate var isPythonLetter: Bool {
    switch properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: true
    default: false
    }
  }
}
