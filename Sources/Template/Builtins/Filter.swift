/// The filters behind `|`. jinja2's others (`pprint`, `random`, `urlize`, `wordwrap`, `xmlattr` and the like) are for web
/// pages and count as unknown.
enum Filter: String, Sendable {
  case abs, attr, batch, capitalize, center, count, d, `default`, dictsort, e, escape, filesizeformat, first, float
  case forceescape, format, groupby, indent, int, items, join, last, length, list, lower, map, max, min, reject
  case rejectattr, replace, reverse, round, safe, select, selectattr, slice, sort, string, striptags, sum, title, tojson
  case trim, truncate, unique, upper, urlencode, wordcount
}

extension Interpreter {
  func apply(_ filter: Filter, to value: Value, _ arguments: CallArguments) throws(TemplateError) -> Value {
    switch filter {
    case .tojson: return try toJSON(value, arguments)
    case .map: return try mapped(value, arguments)
    case .select, .reject: return try selected(value, arguments, keeps: filter == .select, byAttribute: false)
    case .selectattr, .rejectattr:
      return try selected(value, arguments, keeps: filter == .selectattr, byAttribute: true)
    case .format:
      let text = try text(of: value)
      guard arguments.keywords.isEmpty || arguments.positional.isEmpty else {
        throw fail("can't handle positional and keyword arguments at the same time")
      }
      if arguments.keywords.isEmpty { return .string(try format(text, percent: .tuple(List(arguments.positional)))) }
      let pairs = arguments.keywords.map { (Value.string($0.name), $0.value) }
      return .string(try format(text, percent: .mapping(try mapping(pairs))))
    case .abs, .count, .length, .e, .escape, .forceescape, .first, .last, .items, .list, .lower, .upper, .string, .safe,
      .title, .capitalize, .reverse, .striptags, .urlencode, .wordcount:
      _ = try bind(arguments, [], required: 0, in: filter.rawValue)
      return try applyPlain(filter, to: value)
    default: return try applyBound(filter, to: value, arguments)
    }
  }

  private func applyPlain(_ filter: Filter, to value: Value) throws(TemplateError) -> Value {
    switch filter {
    case .count, .length: return .int(try length(value))
    case .list: return try list(try iterate(value))
    case .string: return .string(try text(of: value))
    case .abs:
      switch Number(value) {
      case .int(let number)?: return try number < 0 ? signed(.int(number), negates: true) : .int(number)
      case .double(let number)?: return .double(number.magnitude)
      case nil: throw fail("bad operand type for abs(): '\(value.typeName)'")
      }
    case .items:
      if case .undefined = value { return try generator([]) }
      guard case .mapping(let mapping) = value else { throw fail("can only get item pairs from a mapping") }
      return try generator(try pairs(of: mapping))
    case .first:
      if case .generator(let generator) = value {
        return generator.next() ?? .undefined(.message("no first item, sequence was empty"))
      }
      return try iterate(value).first ?? .undefined(.message("no first item, sequence was empty"))
    case .last:
      if case .generator = value { throw fail("'generator' object is not reversible") }
      return try iterate(value).last ?? .undefined(.message("no last item, sequence was empty"))
    case .reverse:
      if case .string = value { return try slice(of: value, start: nil, stop: nil, step: -1) }
      if case .undefined(let missing) = value { throw fail(missing.message) }
      let items = try iterate(value)
      try allocate(elements: items.count)
      if case .generator = value { return try list(items.reversed()) }
      return try generator(items.reversed())
    default: break
    }
    var text = try text(of: value)
    try allocate(text)
    // Each character's properties are looked up.
    if filter != .safe, filter != .string { try charge(2 * text.bytes.count) }
    switch filter {
    case .safe: text.isMarkup = true
    case .escape, .e: return .string(text.isMarkup ? text : try escaped(text))
    case .forceescape: return .string(try escaped(text))
    case .upper: return .string(text.uppercased())
    case .lower: return .string(text.lowercased())
    case .capitalize: return .string(text.capitalized())
    case .title: return .string(text.wordsCapitalized())
    case .striptags: return .string(try withoutTags(text))
    case .urlencode: return .string(try percentEncoded(text))
    case .wordcount:
      var count = 0
      var inside = false
      for scalar in text.string.unicodeScalars {
        let isWord = scalar == "_" || scalar.properties.isAlphabetic || scalar.properties.numericType != nil
        if isWord, !inside { count += 1 }
        inside = isWord
      }
      return .int(count)
    default: break
    }
    return .string(text)
  }

  private func applyBound(
    _ filter: Filter, to value: Value, _ arguments: CallArguments
  ) throws(TemplateError) -> Value {
    let name = filter.rawValue
    func bound(_ names: String..., required: Int = 0) throws(TemplateError) -> [Value?] {
      try bind(arguments, names, required: required, in: name)
    }
    switch filter {
    case .default, .d:
      let given = try bound("default_value", "boolean")
      let replaces = value.isUndefined || ((given[1]?.isTrue ?? false) && !value.isTrue)
      return replaces ? given[0] ?? .string(Text()) : value
    case .trim:
      let given = try bound("chars")
      let text = try text(of: value)
      var set: Text?
      if let chars = given[0] { if case .none = chars {} else { set = try string(chars, in: name) } }
      return .string(try stripped(text, set))
    case .join:
      let given = try bound("d", "attribute")
      var items = try iterate(value)
      if let attribute = given[1], !isNone(attribute) {
        try allocate(elements: items.count)
        for place in items.indices { items[place] = try lookUp(attribute, in: items[place]) }
      }
      let separator = try given[0].map { value throws(TemplateError) in try text(of: value) } ?? Text()
      return .string(try joined(items, separator: separator, printsAll: true))
    case .replace:
      let given = try bound("old", "new", "count", required: 2)
      let old = try text(of: given[0] ?? .none)
      let new = try text(of: given[1] ?? .none)
      var count = -1
      if let limit = given[2], !isNone(limit) { count = try integer(limit, in: name) }
      return .string(try replace(try text(of: value), old, with: new, limit: count))
    case .attr:
      let given = try bound("name", required: 1)
      let attribute = AttributeName(try text(of: given[0] ?? .none).string)
      if case .mapping(let mapping) = value, attribute.method == nil, mapping[attribute.text] != nil {
        return .undefined(.attribute(owner: "dict", attribute.string))
      }
      return try self.attribute(of: value, attribute)
    case .int, .float: return try converted(value, filter, arguments)
    case .round:
      let given = try bound("precision", "method")
      let precision = try given[0].map { value throws(TemplateError) in try integer(value, in: name) } ?? 0
      let method = try given[1].map { value throws(TemplateError) in try text(of: value).string } ?? "common"
      return try rounded(value, precision: precision, method: method)
    case .indent:
      let given = try bound("width", "first", "blank")
      return .string(
        try indented(value, given[0] ?? .int(4), first: given[1]?.isTrue ?? false, blank: given[2]?.isTrue ?? false))
    case .center:
      let width = try bound("width")[0].map { value throws(TemplateError) in try integer(value, in: name) } ?? 80
      return .string(try padded(try text(of: value), .center, width: width, fill: Text(" ")))
    case .truncate: return try truncated(value, arguments)
    case .filesizeformat: return try fileSize(value, isBinary: try bound("binary")[0]?.isTrue ?? false)
    default: return try applyToSequence(filter, value, arguments)
    }
  }

  func isNone(_ value: Value) -> Bool { if case .none = value { true } else { false } }

  // MARK: Numbers

  private func converted(_ value: Value, _ filter: Filter, _ arguments: CallArguments) throws(TemplateError) -> Value {
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

  /// Whether a text may be a number; no number that can be held takes more.
  private func isShort(_ text: Text) -> Bool { text.bytes.count <= 4096 }

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

  private func rounded(_ value: Value, precision: Int, method: String) throws(TemplateError) -> Value {
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

  private func fileSize(_ value: Value, isBinary: Bool) throws(TemplateError) -> Value {
    guard let bytes = Number(try converted(value, .float, CallArguments()))?.double, bytes.isFinite else {
      throw fail("filesizeformat: not a number")
    }
    let base = isBinary ? 1024.0 : 1000.0
    if bytes == 1 { return .string("1 Byte") }
    if bytes < base {
      return .string("\(Decimal(bytes.rounded(.towardZero)).fixed(places: 0)) Bytes")
    }
    let prefixes =
      isBinary
      ? ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"] : ["kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"]
    var unit = base
    for prefix in prefixes {
      unit *= base
      if bytes < unit || prefix == prefixes[prefixes.count - 1] {
        return .string(Decimal(base * bytes / unit).fixed(places: 1) + " " + prefix)
      }
    }
    return .none
  }
}
