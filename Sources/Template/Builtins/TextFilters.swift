extension Interpreter {
  /// The filter `indent`: puts an indentation before every line. Without `first`, the first line has none; without `blank`,
  /// empty lines have none.
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
    for (offset, line) in lines.enumerated() {
      if offset > 0 { result.append("\n") }
      let isIndented = offset == 0 ? first : blank || !line.isEmpty
      if isIndented { result.append(indentation) }
      result.append(text, line)
    }
    return result
  }
}
