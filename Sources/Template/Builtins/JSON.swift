extension Interpreter {
  /// The options of `tojson`, which are those of Python's `json.dumps`.
  struct JSONOptions {
    var escapesUnicode = false
    /// The indentation of one level; `nil` for all on one line.
    var indent: Text?
    var itemSeparator = Text(", ")
    var keySeparator = Text(": ")
    var sortsKeys = false
  }

  /// The filter `tojson`.
  func toJSON(_ value: Value, _ arguments: CallArguments) throws(TemplateError) -> Value {
    let given = try bind(
      arguments, ["ensure_ascii", "indent", "separators", "sort_keys"], required: 0, in: "tojson")
    var options = JSONOptions()
    options.escapesUnicode = given[0]?.isTrue ?? false
    options.sortsKeys = given[3]?.isTrue ?? false
    switch given[1] ?? .none {
    case .none: break
    case .string(let text): options.indent = text
    case let width:
      let count = max(0, try integer(width, in: "tojson"))
      try allocate(count)
      options.indent = Text(bytes: [UInt8](repeating: 32, count: count))
    }
    if options.indent != nil { options.itemSeparator = Text(",") }
    switch given[2] ?? .none {
    case .none: break
    case let pair:
      let parts = try iterate(pair)
      guard parts.count == 2, case .string(let item) = parts[0], case .string(let key) = parts[1] else {
        throw fail("tojson: separators must be two strings")
      }
      options.itemSeparator = item
      options.keySeparator = key
    }
    var result = Text()
    try write(value, options, level: 0, covered: noSource, into: &result)
    return .string(result)
  }

  private func write(
    _ value: Value, _ options: JSONOptions, level: Int, covered: Source, into result: inout Text
  ) throws(TemplateError) {
    try enter()
    try allocate(8)
    switch value {
    case .none: result.append("null")
    case .bool(let value, let source): result.append(Text(value ? "true" : "false", source: source))
    case .int(let value, let source): result.append(Text(String(value), source: source))
    case .double(let value, let source):
      let text = value.isNaN ? "NaN" : value.isInfinite ? (value < 0 ? "-Infinity" : "Infinity") : nil
      result.append(Text(text ?? Decimal.shortest(value), source: source))
    case .string(let text): try write(text, options, covered: covered, into: &result)
    case .list(let list), .tuple(let list):
      let start = result.bytes.count
      if list.items.isEmpty {
        result.append("[]")
      } else {
        result.append("[")
        for (offset, item) in list.items.enumerated() {
          if offset > 0 { result.append(options.itemSeparator) }
          try breakLine(options, level: level + 1, into: &result)
          try write(item, options, level: level + 1, covered: max(covered, list.source), into: &result)
        }
        try breakLine(options, level: level, into: &result)
        result.append("]")
      }
      if covered == noSource, list.source >= 0 { result.mark(from: start, source: list.source) }
    case .mapping(let mapping): try write(mapping, options, level: level, covered: covered, into: &result)
    default: throw fail("Object of type \(value.typeName) is not JSON serializable")
    }
    leave()
  }

  private func write(
    _ mapping: Mapping, _ options: JSONOptions, level: Int, covered: Source, into result: inout Text
  ) throws(TemplateError) {
    let start = result.bytes.count
    defer { if covered == noSource, mapping.source >= 0 { result.mark(from: start, source: mapping.source) } }
    guard mapping.count > 0 else {
      result.append("{}")
      return
    }
    let inner = max(covered, mapping.source)
    var offsets = Array(mapping.keys.indices)
    if options.sortsKeys { offsets = try sorted(offsets, by: { mapping.keys[$0] }, reverse: false) }
    result.append("{")
    var isFirst = true
    for offset in offsets {
      if !isFirst { result.append(options.itemSeparator) }
      isFirst = false
      try breakLine(options, level: level + 1, into: &result)
      let key: Text =
        switch mapping.keys[offset] {
        case .string(let text): text
        case .none: Text("null")
        case .bool(let value, _): Text(value ? "true" : "false")
        case .int(let value, _): Text(String(value))
        case .double(let value, _): Text(Decimal.shortest(value))
        case let other: throw fail("keys must be str, int, float, bool or None, not \(other.typeName)")
        }
      try write(key, options, covered: inner, into: &result)
      result.append(options.keySeparator)
      try write(mapping.values[offset], options, level: level + 1, covered: inner, into: &result)
    }
    try breakLine(options, level: level, into: &result)
    result.append("}")
  }

  private func breakLine(_ options: JSONOptions, level: Int, into result: inout Text) throws(TemplateError) {
    guard let indent = options.indent else { return }
    try allocate(1 + level * indent.bytes.count)
    result.append("\n")
    for _ in 0..<level { result.append(indent) }
  }

  private func write(
    _ text: Text, _ options: JSONOptions, covered: Source, into result: inout Text
  ) throws(TemplateError) {
    try allocate(text)
    try charge(text.bytes.count / 4)
    let start = result.bytes.count
    let source = text.wholeSource
    result.append("\"")
    let bytes = text.bytes
    result.append(text) { index in
      let end = bytes[index] < 0x80 ? index + 1 : min(index + UTF8Bytes.length(lead: bytes[index]), bytes.count)
      return (Self.jsonEscape(bytes, index, escapesUnicode: options.escapesUnicode), end)
    }
    result.append("\"")
    // Where a whole string of a message is written, its quotes belong to the message too.
    if source >= 0, covered == noSource { result.mark(from: start, source: source) }
  }

  private static func jsonEscape(_ bytes: [UInt8], _ index: Int, escapesUnicode: Bool) -> String? {
    func unit(_ value: UInt32) -> String {
      let digits = String(value, radix: 16)
      return "\\u" + String(repeating: "0", count: max(0, 4 - digits.count)) + digits
    }
    switch bytes[index] {
    case UInt8(ascii: "\""): return "\\\""
    case UInt8(ascii: "\\"): return "\\\\"
    case 10: return "\\n"
    case 13: return "\\r"
    case 9: return "\\t"
    case 8: return "\\b"
    case 12: return "\\f"
    case 0..<32: return unit(UInt32(bytes[index]))
    case 0x7F where escapesUnicode: return nil
    case 32..<0x80: return nil
    default:
      guard escapesUnicode else { return nil }
      return UTF8Bytes.scalar(bytes, at: index).scalar.utf16.map { unit(UInt32($0)) }.joined()
    }
  }
}
