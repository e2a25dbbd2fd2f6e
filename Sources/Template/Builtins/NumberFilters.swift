extension Interpreter {
  /// The filters `int` and `float`.
  func converted(_ value: Value, _ filter: Filter, _ arguments: CallArguments) throws(TemplateError) -> Value {
    if case .undefined(let missing) = value { throw fail(missing.message) }
    if filter == .float {
      let given = try bind(arguments, ["default"], required: 0, in: "float")
      if let number = Number(value) { return .double(number.double) }
      if case .string(let text) = value {
        try read(text.bytes.count)
        if isShort(text), let number = pythonFloat(text) { return .double(number) }
      }
      return given[0] ?? .double(0)
    }
    let given = try bind(arguments, ["default", "base"], required: 0, in: "int")
    let base = try given[1].map { value throws(TemplateError) in try integer(value, in: "int") } ?? 10
    switch value {
    case .int, .bool: return .int(try integer(value, in: "int"))
    case .double(let number, _):
      if number.isNaN || number.isInfinite { return given[0] ?? .int(0) }
      guard let whole = Int(exactly: number.rounded(.towardZero)) else { throw fail("an integer beyond 64 bits") }
      return .int(whole)
    case .string(let text):
      try read(text.bytes.count)
      guard isShort(text) else { break }
      if let whole = pythonInt(text, base: base) { return .int(whole) }
      if let number = pythonFloat(text), number.isFinite {
        guard let whole = Int(exactly: number.rounded(.towardZero)) else { throw fail("an integer beyond 64 bits") }
        return .int(whole)
      }
    default: break
    }
    return given[0] ?? .int(0)
  }

  /// Whether a text is short enough to be a number within 64 bits.
  private func isShort(_ text: Text) -> Bool { text.bytes.count <= 4096 }

  /// Python's `int(text, base)`; `nil` if it is no number, or one beyond 64 bits.
  private func pythonInt(_ text: Text, base: Int) -> Int? {
    var digits = Substring(text.stripped(nil).string)
    guard (2...36).contains(base) else { return nil }
    let sign = digits.first == "-" ? "-" : ""
    if digits.first == "-" || digits.first == "+" { digits = digits.dropFirst() }
    let prefixes = [16: "0x", 8: "0o", 2: "0b"]
    if let prefix = prefixes[base], digits.lowercased().hasPrefix(prefix) { digits = digits.dropFirst(2) }
    guard let first = digits.first, first != "_", first != "+", first != "-", digits.last != "_",
      !digits.contains("__")
    else { return nil }
    return Int(sign + digits.filter { $0 != "_" }, radix: base)
  }

  /// Python's `float(text)`; `nil` if it is no number.
  private func pythonFloat(_ text: Text) -> Double? {
    let digits = text.stripped(nil).string.lowercased()
    switch digits {
    case "inf", "+inf", "infinity", "+infinity": return .infinity
    case "-inf", "-infinity": return -.infinity
    case "nan", "+nan", "-nan": return .nan
    default: break
    }
    guard digits.utf8.allSatisfy({ "0123456789.e+-_".utf8.contains($0) }), !digits.contains("__"),
      digits.first != "_", digits.last != "_"
    else { return nil }
    return Double(digits.filter { $0 != "_" })
  }

  /// The filter `round`.
  func rounded(_ value: Value, precision: Int, method: String) throws(TemplateError) -> Value {
    guard ["common", "ceil", "floor"].contains(method) else { throw fail("method must be common, ceil or floor") }
    guard let number = Number(value) else {
      if case .undefined(let missing) = value { throw fail(missing.message) }
      throw fail("type \(value.typeName) doesn't define __round__ method")
    }
    guard (-400...400).contains(precision) else { throw limit("a precision beyond 400 digits") }
    if method != "common" {
      let scale = try apply(.power, .int(10), .int(precision))
      let scaled = try apply(.multiply, value, scale)
      guard let size = Number(scaled)?.double, size.isFinite else { throw fail("cannot convert float to integer") }
      let whole = size.rounded(method == "ceil" ? .up : .down)
      guard let integer = Int(exactly: whole) else { throw fail("an integer beyond 64 bits") }
      return try apply(.divide, .int(integer), scale)
    }
    switch number {
    case .int(let integer):
      guard precision < 0 else { return .int(integer) }
      var scale = 1
      for _ in 0..<min(-precision, 18) { scale *= 10 }
      if precision < -18 { return .int(0) }
      let remainder = ((integer % scale) + scale) % scale
      let (lower, overflow) = integer.subtractingReportingOverflow(remainder)
      guard !overflow else { throw fail("an integer beyond 64 bits") }
      let isUp = remainder > scale - remainder || (remainder * 2 == scale && (lower / scale) % 2 != 0)
      return try isUp ? apply(.add, .int(lower), .int(scale)) : .int(lower)
    case .double(let double):
      guard double.isFinite else { return value }
      try charge(400)
      var decimal = Decimal(double)
      let digits = precision >= 0 ? precision : 0
      if precision < 0 {
        decimal.round(toDigits: decimal.exponent + precision)
      }
      let magnitude = Double(decimal.fixed(places: digits)) ?? double.magnitude
      return .double(double.sign == .minus ? -magnitude : magnitude)
    }
  }
}
