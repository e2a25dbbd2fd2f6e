extension Interpreter {
  /// Python's `str(value)`, with marks that say where it came from.
  func text(of value: Value) throws(TemplateError) -> Text {
    switch value {
    case .string(let text): return text
    case .undefined: return Text()
    case .none: return Text("None")
    case .bool(let value, let source): return Text(value ? "True" : "False", source: source)
    case .int(let value, let source): return Text(String(value), source: source)
    case .double(let value, let source): return Text(Decimal.shortest(value), source: source)
    default:
      var result = Text()
      try printRepresentation(of: value, into: &result, covered: noSource)
      return result
    }
  }

  /// Python's `repr(value)`.
  func representation(of value: Value) throws(TemplateError) -> Text {
    var result = Text()
    try printRepresentation(of: value, into: &result, covered: noSource)
    return result
  }

  private func printRepresentation(
    of value: Value, into result: inout Text, covered: Source
  ) throws(TemplateError) {
    try enter()
    try allocate(8)
    switch value {
    case .string(let text): try printQuoted(text, into: &result)
    case .undefined: result.append("Undefined")
    case .none, .bool, .int, .double: result.append(try text(of: value))
    case .list(let list):
      let start = result.bytes.count
      result.append("[")
      try printList(list.items, into: &result, covered: max(covered, list.source))
      result.append("]")
      if covered == noSource, list.source >= 0 { result.mark(from: start, source: list.source) }
    case .tuple(let list):
      result.append("(")
      try printList(list.items, into: &result, covered: covered)
      result.append(list.items.count == 1 ? ",)" : ")")
    case .mapping(let mapping):
      let start = result.bytes.count
      result.append("{")
      for (offset, key) in mapping.keys.enumerated() {
        if offset > 0 { result.append(", ") }
        try printRepresentation(of: key, into: &result, covered: max(covered, mapping.source))
        result.append(": ")
        try printRepresentation(of: mapping.values[offset], into: &result, covered: max(covered, mapping.source))
      }
      result.append("}")
      if covered == noSource, mapping.source >= 0 { result.mark(from: start, source: mapping.source) }
    case .view(let view):
      result.append(view.kind.rawValue + "([")
      try printList(view.items, into: &result, covered: covered)
      result.append("])")
    case .range(let range):
      result.append("range(\(range.start), \(range.stop)\(range.step == 1 ? "" : ", \(range.step)"))")
    case .namespace(let namespace):
      result.append("<Namespace {")
      for (offset, name) in namespace.names.enumerated() {
        if offset > 0 { result.append(", ") }
        try printQuoted(name, into: &result)
        result.append(": ")
        try printRepresentation(of: namespace.values[offset], into: &result, covered: covered)
      }
      result.append("}>")
    case .loop(let loop): result.append("<LoopContext \(loop.index + 1)/\(loop.items.count)>")
    case .macro(let macro):
      result.append(macro.definition.name.isEmpty ? "<Macro anonymous>" : "<Macro '\(macro.definition.name)'>")
    case .generator, .method, .function: result.append("<\(value.typeName)>")
    }
    leave()
  }

  private func printList(_ items: [Value], into result: inout Text, covered: Source) throws(TemplateError) {
    for (offset, item) in items.enumerated() {
      if offset > 0 { result.append(", ") }
      try printRepresentation(of: item, into: &result, covered: covered)
    }
  }

  private func printQuoted(_ text: Text, into result: inout Text) throws(TemplateError) {
    try allocate(text.bytes.count)
    let bytes = text.bytes
    let double = bytes.contains(UInt8(ascii: "'")) && !bytes.contains(UInt8(ascii: "\""))
    let quote = double ? UInt8(ascii: "\"") : UInt8(ascii: "'")
    result.bytes.append(quote)
    result.append(text) { index in
      let (scalar, end) = UTF8Bytes.scalar(bytes, at: index)
      return (Self.pythonEscape(scalar, quote: quote), end)
    }
    result.bytes.append(quote)
  }

  private static func pythonEscape(_ scalar: Unicode.Scalar, quote: UInt8) -> String? {
    func padded(_ prefix: String, _ width: Int) -> String {
      let digits = String(scalar.value, radix: 16)
      return prefix + String(repeating: "0", count: max(0, width - digits.count)) + digits
    }
    switch scalar.value {
    case 0x5C: return "\\\\"
    case 0x0A: return "\\n"
    case 0x0D: return "\\r"
    case 0x09: return "\\t"
    case UInt32(quote): return "\\" + String(Character(Unicode.Scalar(quote)))
    case 0x20...0x7E: return nil
    case 0..<0x100 where scalar.value < 0x20 || scalar.value == 0x7F || scalar.value < 0xA1 || scalar.value == 0xAD:
      return padded("\\x", 2)
    default: break
    }
    switch scalar.properties.generalCategory {
    case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator, .spaceSeparator:
      return scalar.value < 0x1_0000 ? padded("\\u", 4) : padded("\\U", 8)
    default: return nil
    }
  }

  /// Markup in which the characters that HTML reserves are escaped, as MarkupSafe's `escape` does.
  func escaped(_ text: Text) throws(TemplateError) -> Text {
    try allocate(5 * text.bytes.count)
    var result = Text()
    result.isMarkup = true
    var plain = 0
    for (index, byte) in text.bytes.enumerated() {
      let entity: StaticString
      switch byte {
      case UInt8(ascii: "&"): entity = "&amp;"
      case UInt8(ascii: "<"): entity = "&lt;"
      case UInt8(ascii: ">"): entity = "&gt;"
      case UInt8(ascii: "'"): entity = "&#39;"
      case UInt8(ascii: "\""): entity = "&#34;"
      default: continue
      }
      result.append(text, plain..<index)
      result.append(Array(entity.withUTF8Buffer { Array($0) }), for: text, index..<(index + 1))
      plain = index + 1
    }
    result.append(text, plain..<text.bytes.count)
    return result
  }
}
