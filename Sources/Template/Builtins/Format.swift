/// Python's two ways to format strings: `'%s' % value` and `'{}'.format(value)`.
extension Interpreter {
  /// The flags, width and precision of one conversion.
  private struct Layout {
    var fill = Text(" ")
    /// `<`, `>`, `^` or `=`; 0 for the default of the value's type.
    var alignment: UInt8 = 0
    /// `+` or a space; 0 for a minus sign only.
    var sign: UInt8 = 0
    var isAlternate = false
    var grouping: UInt8 = 0
    var width = 0
    var precision: Int?
    var type: UInt8 = 0
  }

  /// Larger widths are refused.
  private static let maximumWidth = 100_000
  /// Larger precisions are refused.
  private static let maximumPrecision = 400

  // MARK: Percent

  func format(_ text: Text, percent value: Value) throws(TemplateError) -> Text {
    try read(text.bytes.count)
    var positional: [Value] = [value]
    if case .tuple(let list) = value { positional = list.items }
    var next = 0
    var usesKeys = false
    func take() throws(TemplateError) -> Value {
      guard next < positional.count else { throw fail("not enough arguments for format string") }
      next += 1
      return positional[next - 1]
    }
    var result = Text()
    result.isMarkup = text.isMarkup
    let bytes = text.bytes
    var index = 0
    while index < bytes.count {
      let start = index
      while index < bytes.count, bytes[index] != UInt8(ascii: "%") { index += 1 }
      if index > start {
        try allocate(index - start)
        result.append(text, start..<index)
      }
      guard index < bytes.count else { break }
      index += 1
      var key: Value?
      if index < bytes.count, bytes[index] == UInt8(ascii: "(") {
        guard case .mapping(let mapping) = value else { throw fail("format requires a mapping") }
        guard let end = bytes[index...].firstIndex(of: UInt8(ascii: ")")) else { throw fail("incomplete format key") }
        let name = text[(index + 1)..<end]
        guard let found = mapping[name] else { throw fail("'\(name.string)'") }
        key = found
        usesKeys = true
        index = end + 1
      }
      var layout = Layout()
      var isLeft = false
      while index < bytes.count, let flag = Self.percentFlags.first(where: { $0 == bytes[index] }) {
        switch flag {
        case UInt8(ascii: "-"): isLeft = true
        case UInt8(ascii: "0"): layout.fill = Text("0")
        case UInt8(ascii: "#"): layout.isAlternate = true
        case UInt8(ascii: "+"): layout.sign = flag
        default: if layout.sign == 0 { layout.sign = flag }
        }
        index += 1
      }
      func number() throws(TemplateError) -> Int? {
        if index < bytes.count, bytes[index] == UInt8(ascii: "*") {
          index += 1
          return try integer(try take(), in: "%*")
        }
        var digits = 0
        var found = false
        while index < bytes.count, (48...57).contains(bytes[index]) {
          digits = min(digits * 10 + Int(bytes[index] - 48), Self.maximumWidth + 1)
          index += 1
          found = true
        }
        return found ? digits : nil
      }
      layout.width = try number() ?? 0
      if layout.width < 0 {
        isLeft = true
        layout.width = layout.width == Int.min ? Int.max : -layout.width
      }
      if index < bytes.count, bytes[index] == UInt8(ascii: ".") {
        index += 1
        layout.precision = max(0, try number() ?? 0)
      }
      guard index < bytes.count else { throw fail("incomplete format") }
      layout.type = bytes[index]
      index += 1
      if layout.type == UInt8(ascii: "%") {
        result.append("%")
        continue
      }
      let isNumeric = !"srac".utf8.contains(layout.type)
      layout.alignment =
        isLeft
        ? UInt8(ascii: "<")
        : layout.fill.bytes == [48] && isNumeric
          ? UInt8(ascii: "=") : UInt8(ascii: ">")
      if isLeft || !isNumeric { layout.fill = Text(" ") }
      let argument = if let key { key } else { try take() }
      try result.append(percent(argument, layout))
    }
    if next < positional.count, !usesKeys {
      if case .mapping = value { return result }
      throw fail("not all arguments converted during string formatting")
    }
    return result
  }

  private static let percentFlags = Array("-+ #0".utf8)

  private func percent(_ value: Value, _ layout: Layout) throws(TemplateError) -> Text {
    switch Character(Unicode.Scalar(layout.type)) {
    case "s": return try formatted(try text(of: value), layout)
    case "r", "a": return try formatted(try representation(of: value), layout)
    case "c":
      if case .int(let code, _) = value, let scalar = UInt32(exactly: code).flatMap(Unicode.Scalar.init) {
        return try formatted(Text(String(scalar)), layout)
      }
      guard case .string(let text) = value, UTF8Bytes.count(text.bytes) == 1 else {
        throw fail("%c requires int or char")
      }
      return try formatted(text, layout)
    case "d", "i", "u", "x", "X", "o":
      var layout = layout
      if "iu".utf8.contains(layout.type) { layout.type = UInt8(ascii: "d") }
      switch Number(value) {
      case .int(let number)?: return try formatted(number, layout)
      case .double(let number)? where layout.type == UInt8(ascii: "d"):
        guard let whole = Int(exactly: number.rounded(.towardZero)) else { throw fail("an integer beyond 64 bits") }
        return try formatted(whole, layout)
      default:
        if case .undefined(let missing) = value { throw fail(missing.message) }
        throw fail(
          "%\(layout.type == UInt8(ascii: "d") ? "d" : "x") format: a number is required, not \(value.typeName)")
      }
    case "f", "F", "e", "E", "g", "G":
      guard let number = Number(value) else {
        if case .undefined(let missing) = value { throw fail(missing.message) }
        throw fail("must be real number, not \(value.typeName)")
      }
      return try formatted(number.double, layout)
    default: throw fail("unsupported format character")
    }
  }

  // MARK: str.format

  func format(_ text: Text, _ arguments: CallArguments) throws(TemplateError) -> Text {
    var automatic = 0
    return try format(text, arguments, &automatic, level: 0)
  }

  private func format(
    _ text: Text, _ arguments: CallArguments, _ automatic: inout Int, level: Int
  ) throws(TemplateError) -> Text {
    guard level < 2 else { throw fail("Max string recursion exceeded") }
    let bytes = text.bytes
    var result = Text()
    result.isMarkup = text.isMarkup
    var index = 0
    while index < bytes.count {
      let byte = bytes[index]
      guard byte == UInt8(ascii: "{") || byte == UInt8(ascii: "}") else {
        let start = index
        while index < bytes.count, bytes[index] != UInt8(ascii: "{"), bytes[index] != UInt8(ascii: "}") { index += 1 }
        try allocate(index - start)
        result.append(text, start..<index)
        continue
      }
      if index + 1 < bytes.count, bytes[index + 1] == byte {
        result.append(text, index..<(index + 1))
        index += 2
        continue
      }
      guard byte == UInt8(ascii: "{") else { throw fail("Single '}' encountered in format string") }
      var end = index + 1
      var open = 1
      while end < bytes.count {
        if bytes[end] == UInt8(ascii: "{") { open += 1 }
        if bytes[end] == UInt8(ascii: "}") { open -= 1 }
        if open == 0 { break }
        end += 1
      }
      guard end < bytes.count else { throw fail("expected '}' before end of string") }
      result.append(try field(text[(index + 1)..<end], arguments, &automatic, level: level))
      index = end + 1
    }
    return result
  }

  private func field(
    _ field: Text, _ arguments: CallArguments, _ automatic: inout Int, level: Int
  ) throws(TemplateError) -> Text {
    let bytes = field.bytes
    var end = 0
    var isInside = false
    while end < bytes.count {
      if bytes[end] == UInt8(ascii: "[") { isInside = true }
      if bytes[end] == UInt8(ascii: "]") { isInside = false }
      if !isInside, bytes[end] == UInt8(ascii: "!") || bytes[end] == UInt8(ascii: ":") { break }
      end += 1
    }
    var value = try self.field(named: field[0..<end], arguments, &automatic)
    if end < bytes.count, bytes[end] == UInt8(ascii: "!") {
      guard end + 1 < bytes.count else { throw fail("end of string while looking for conversion specifier") }
      switch bytes[end + 1] {
      case UInt8(ascii: "s"): value = .string(try text(of: value))
      case UInt8(ascii: "r"), UInt8(ascii: "a"): value = .string(try representation(of: value))
      default: throw fail("unknown conversion specifier")
      }
      end += 2
      guard end == bytes.count || bytes[end] == UInt8(ascii: ":") else {
        throw fail("expected ':' after conversion specifier")
      }
    }
    guard end < bytes.count else { return try text(of: value) }
    let specification = try format(field[(end + 1)..<bytes.count], arguments, &automatic, level: level + 1)
    return try format(value, specification: specification)
  }

  private func field(
    named name: Text, _ arguments: CallArguments, _ automatic: inout Int
  ) throws(TemplateError) -> Value {
    let bytes = name.bytes
    var end = 0
    while end < bytes.count, bytes[end] != UInt8(ascii: "."), bytes[end] != UInt8(ascii: "[") { end += 1 }
    let first = name[0..<end].string
    var value: Value
    if first.isEmpty || Int(first) != nil {
      let offset = Int(first) ?? automatic
      if first.isEmpty { automatic += 1 }
      guard arguments.positional.indices.contains(offset) else {
        throw fail("Replacement index \(offset) out of range for positional args tuple")
      }
      value = arguments.positional[offset]
    } else {
      guard let found = arguments.keywords.first(where: { $0.name == first })?.value else { throw fail("'\(first)'") }
      value = found
    }
    while end < bytes.count {
      let start = end + 1
      if bytes[end] == UInt8(ascii: ".") {
        end = start
        while end < bytes.count, bytes[end] != UInt8(ascii: "."), bytes[end] != UInt8(ascii: "[") { end += 1 }
        value = try attribute(of: value, AttributeName(name[start..<end].string))
      } else {
        guard let close = bytes[start...].firstIndex(of: UInt8(ascii: "]")) else {
          throw fail("Missing ']' in format string")
        }
        let key = name[start..<close]
        value = try item(of: value, Int(key.string).map { .int($0) } ?? .string(key))
        end = close + 1
      }
    }
    return value
  }

  private func format(_ value: Value, specification: Text) throws(TemplateError) -> Text {
    if specification.isEmpty { return try text(of: value) }
    let layout = try self.layout(specification)
    switch value {
    case .string(let text):
      guard layout.type == 0 || layout.type == UInt8(ascii: "s"), layout.sign == 0 else {
        throw fail("Unknown format code for object of type 'str'")
      }
      return try formatted(text, layout)
    case .bool, .int, .double:
      guard let number = Number(value) else { break }
      if layout.type == 0, case .bool = value, layout.precision == nil {
        return try formatted(try text(of: value), layout)
      }
      switch (number, layout.type) {
      case (.int(let number), 0), (.int(let number), UInt8(ascii: "d")), (.int(let number), UInt8(ascii: "x")),
        (.int(let number), UInt8(ascii: "X")), (.int(let number), UInt8(ascii: "o")),
        (.int(let number), UInt8(ascii: "b")):
        return try formatted(number, layout)
      case (.double(let number), 0) where layout.precision == nil:
        return try formatted(Text(Decimal.shortest(number.magnitude)), negative: number.sign == .minus, layout)
      case (_, let type) where "fFeEgG%".utf8.contains(type): return try formatted(number.double, layout)
      default: throw fail("Unknown format code for object of type '\(value.typeName)'")
      }
    default: break
    }
    throw fail("unsupported format string passed to \(value.typeName).__format__")
  }

  private func layout(_ specification: Text) throws(TemplateError) -> Layout {
    var layout = Layout()
    let bytes = specification.bytes
    var index = 0
    func isAlignment(_ offset: Int) -> Bool { offset < bytes.count && "<>^=".utf8.contains(bytes[offset]) }
    if !bytes.isEmpty {
      let length = min(UTF8Bytes.length(lead: bytes[0]), bytes.count)
      if isAlignment(length) {
        layout.fill = specification[0..<length]
        layout.alignment = bytes[length]
        index = length + 1
      } else if isAlignment(0) {
        layout.alignment = bytes[0]
        index = 1
      }
    }
    func take(_ set: String) -> UInt8? {
      guard index < bytes.count, set.utf8.contains(bytes[index]) else { return nil }
      index += 1
      return bytes[index - 1]
    }
    func number() -> Int? {
      var value: Int?
      while let digit = take("0123456789") { value = min((value ?? 0) * 10 + Int(digit - 48), Self.maximumWidth + 1) }
      return value
    }
    layout.sign = take("+- ").map { $0 == UInt8(ascii: "-") ? 0 : $0 } ?? 0
    layout.isAlternate = take("#") != nil
    if index < bytes.count, bytes[index] == 48, layout.alignment == 0 {
      layout.fill = Text("0")
      layout.alignment = UInt8(ascii: "=")
    }
    layout.width = number() ?? 0
    layout.grouping = take(",_") ?? 0
    if take(".") != nil {
      guard let precision = number() else { throw fail("Format specifier missing precision") }
      layout.precision = precision
    }
    layout.type = take("sdxXobfFeEgG%") ?? 0
    guard index == bytes.count else { throw fail("Invalid format specifier '\(specification.string)'") }
    return layout
  }

  // MARK: Layout

  private func formatted(_ text: Text, _ layout: Layout) throws(TemplateError) -> Text {
    var result = text
    if let precision = layout.precision {
      let ends = try boundaries(text)
      if precision < ends.count - 1 { result = text[0..<ends[precision]] }
    }
    guard layout.alignment != UInt8(ascii: "=") || layout.fill.bytes == [48] else {
      throw fail("'=' alignment not allowed in string format specifier")
    }
    var layout = layout
    if layout.alignment == 0 || layout.alignment == UInt8(ascii: "=") { layout.alignment = UInt8(ascii: "<") }
    return try aligned(result, sign: "", layout)
  }

  private func formatted(_ value: Int, _ layout: Layout) throws(TemplateError) -> Text {
    var digits: String
    var prefix = ""
    switch layout.type {
    case UInt8(ascii: "x"): (digits, prefix) = (String(value.magnitude, radix: 16), "0x")
    case UInt8(ascii: "X"): (digits, prefix) = (String(value.magnitude, radix: 16, uppercase: true), "0X")
    case UInt8(ascii: "o"): (digits, prefix) = (String(value.magnitude, radix: 8), "0o")
    case UInt8(ascii: "b"): (digits, prefix) = (String(value.magnitude, radix: 2), "0b")
    default: digits = String(value.magnitude)
    }
    if let precision = layout.precision {
      guard precision <= Self.maximumPrecision else {
        throw limit("a format's precision is over \(Self.maximumPrecision)")
      }
      digits = String(repeating: "0", count: max(0, precision - digits.count)) + digits
    }
    return try formatted(Text(digits), negative: value < 0, layout, prefix: layout.isAlternate ? prefix : "")
  }

  private func formatted(_ value: Double, _ layout: Layout) throws(TemplateError) -> Text {
    let precision = layout.precision ?? 6
    guard precision <= Self.maximumPrecision else {
      throw limit("a format's precision is over \(Self.maximumPrecision)")
    }
    let isUpper = (65...90).contains(layout.type)
    var text: String
    if value.isNaN || value.isInfinite {
      text = value.isNaN ? "nan" : "inf"
      if layout.type == UInt8(ascii: "%") { text += "%" }
    } else {
      try charge(400)
      let scaled = layout.type == UInt8(ascii: "%") ? value * 100 : value
      let decimal = Decimal(scaled.isFinite ? scaled : value)
      switch layout.type | 0x20 {
      case UInt8(ascii: "e"): text = decimal.scientific(places: precision)
      case UInt8(ascii: "g"): text = decimal.general(precision: precision, keepsZeros: layout.isAlternate)
      default: text = decimal.fixed(places: precision) + (layout.type == UInt8(ascii: "%") ? "%" : "")
      }
    }
    return try formatted(
      Text(isUpper ? text.uppercased() : text), negative: value.sign == .minus && !value.isNaN, layout)
  }

  /// Adds thousands separators, the sign and the fill.
  private func formatted(
    _ digits: Text, negative: Bool, _ layout: Layout, prefix: String = ""
  ) throws(TemplateError) -> Text {
    var digits = digits
    if layout.grouping != 0 {
      let whole = digits.bytes.prefix { (48...57).contains($0) }.count
      var grouped: [UInt8] = []
      for (offset, byte) in digits.bytes[..<whole].enumerated() {
        if offset > 0, (whole - offset) % 3 == 0 { grouped.append(layout.grouping) }
        grouped.append(byte)
      }
      digits = Text(bytes: grouped + digits.bytes[whole...])
    }
    let sign = negative ? "-" : layout.sign == 0 ? "" : String(Character(Unicode.Scalar(layout.sign)))
    var layout = layout
    if layout.alignment == 0 { layout.alignment = UInt8(ascii: ">") }
    return try aligned(digits, sign: sign + prefix, layout)
  }

  private func aligned(_ body: Text, sign: String, _ layout: Layout) throws(TemplateError) -> Text {
    guard layout.width <= Self.maximumWidth else { throw limit("a format's width is over \(Self.maximumWidth)") }
    let missing = max(0, layout.width - UTF8Bytes.count(body.bytes) - sign.utf8.count)
    try allocate(body.bytes.count + sign.utf8.count + missing * layout.fill.bytes.count)
    let (left, inner, right) =
      switch layout.alignment {
      case UInt8(ascii: "<"): (0, 0, missing)
      case UInt8(ascii: "^"): (missing / 2, 0, missing - missing / 2)
      case UInt8(ascii: "="): (0, missing, 0)
      default: (missing, 0, 0)
      }
    var result = Text()
    for _ in 0..<left { result.append(layout.fill) }
    result.append(sign)
    for _ in 0..<inner { result.append(layout.fill) }
    result.append(body)
    for _ in 0..<right { result.append(layout.fill) }
    return result
  }
}
