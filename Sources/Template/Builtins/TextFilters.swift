extension Interpreter {
  /// jinja2's `indent`: every line but the first (unless asked for), empty ones left alone (unless asked for).
  func indented(_ value: Value, _ width: Value, first: Bool, blank: Bool) throws(TemplateError) -> Text {
    guard case .string(var text) = value else {
      if case .undefined(let missing) = value { throw fail(missing.message) }
      throw fail("unsupported operand type(s) for +=: '\(value.typeName)' and 'str'")
    }
    let indentation: Text
    if case .string(let given) = width {
      indentation = given
    } else {
      let count = max(0, try integer(width, in: "indent"))
      try allocate(count)
      indentation = Text(bytes: [UInt8](repeating: 32, count: count))
    }
    try allocate(text.bytes.count)
    text.append("\n")
    let lines = text.lines(keepsEnds: false)
    let (added, overflow) = lines.count.multipliedReportingOverflow(by: indentation.bytes.count + 1)
    try allocate(overflow ? Int.max : added)
    var result = Text()
    for (place, line) in lines.enumerated() {
      if place > 0 { result.append("\n") }
      let isIndented = place == 0 ? first : blank || !line.isEmpty
      if isIndented { result.append(indentation) }
      result.append(text, line)
    }
    return result
  }

  func truncated(_ value: Value, _ arguments: CallArguments) throws(TemplateError) -> Value {
    let given = try bind(arguments, ["length", "killwords", "end", "leeway"], required: 0, in: "truncate")
    let text = try string(value, in: "truncate")
    let length = try given[0].map { value throws(TemplateError) in try integer(value, in: "truncate") } ?? 255
    let end = try given[2].map { value throws(TemplateError) in try string(value, in: "truncate") } ?? Text("...")
    var leeway = 5
    if let slack = given[3], !isNone(slack) { leeway = try integer(slack, in: "truncate") }
    let ends = try boundaries(text)
    let kept = length.subtractingReportingOverflow(UTF8Bytes.count(end.bytes)).partialValue
    guard kept >= 0, length >= 0, leeway >= 0 else { throw fail("truncate: the length is below the end's") }
    let (longest, overflow) = length.addingReportingOverflow(leeway)
    if overflow || ends.count - 1 <= longest { return value }
    var result = text[0..<ends[min(kept, ends.count - 1)]]
    if !(given[1]?.isTrue ?? false), let space = result.lastOccurrences(of: Text(" "), limit: 1).first {
      result = result[0..<space]
    }
    result.append(end)
    return .string(result)
  }

  /// Without comments and tags, white space collapsed, entities left as they are but the five that `escape` makes.
  func withoutTags(_ text: Text) throws(TemplateError) -> Text {
    var result = Text()
    var index = 0
    let bytes = text.bytes
    let comment = Text("<!--")
    let commentEnd = Text("-->")
    // Behind here there is no end of a tag, or of a comment.
    var (lastTag, lastComment) = (bytes.count, bytes.count)
    while index < bytes.count {
      try charge()
      if bytes[index] == UInt8(ascii: "<") {
        if index < lastComment, text.hasPrefix(comment, in: index..<bytes.count) {
          if let end = text.find(commentEnd, from: index) {
            index = end + 3
            continue
          }
          lastComment = index
        }
        if index < lastTag {
          if let end = bytes[index...].firstIndex(of: UInt8(ascii: ">")) {
            index = end + 1
            continue
          }
          lastTag = index
        }
      }
      result.append(text, index..<(index + 1))
      index += 1
    }
    let words = result.words(limit: Int.max)
    var collapsed = Text()
    for (place, word) in words.enumerated() {
      if place > 0 { collapsed.append(" ") }
      collapsed.append(result, word)
    }
    for (entity, plain) in [("&lt;", "<"), ("&gt;", ">"), ("&#34;", "\""), ("&#39;", "'"), ("&amp;", "&")] {
      collapsed = try replace(collapsed, Text(entity), with: Text(plain), limit: -1)
    }
    return collapsed
  }

  /// As `urllib.parse.quote`, slashes left alone.
  func percentEncoded(_ text: Text) throws(TemplateError) -> Text {
    try allocate(3 * text.bytes.count)
    let digits = Array("0123456789ABCDEF".utf8)
    var result: [UInt8] = []
    for byte in text.bytes {
      switch byte {
      case 48...57, 65...90, 97...122, UInt8(ascii: "_"), UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "~"),
        UInt8(ascii: "/"):
        result.append(byte)
      default: result += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
      }
    }
    return Text(bytes: result, source: text.wholeSource)
  }
}
