/// The filters that chat templates use, by the name after `|`.
enum Filter: String, Sendable {
  case abs, attr, capitalize, count, d, `default`, dictsort, first, float, format, indent, int, items, join, last,
    length
  case list, lower, map, max, min, reject, rejectattr, replace, reverse, round, safe, select, selectattr, sort, string
  case sum, title, tojson, trim, unique, upper

  /// jinja2's other filters, which are for web pages and tables. No published chat template uses them.
  private static let unsupported: Set<String> = [
    "batch", "center", "e", "escape", "filesizeformat", "forceescape", "groupby", "pprint", "random", "slice",
    "striptags", "truncate", "urlencode", "urlize", "wordcount", "wordwrap", "xmlattr",
  ]

  /// Why there is no filter of a name.
  static func reasonForMissing(_ name: String) -> String {
    unsupported.contains(name)
      ? "the filter '\(name)' is not supported in chat templates" : "no filter named '\(name)'"
  }
}

extension Interpreter {
  /// Applies a filter. Its arguments are checked as jinja2 checks them.
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
    case .abs, .count, .length, .first, .last, .items, .list, .lower, .upper, .string, .safe, .title, .capitalize,
      .reverse:
      _ = try bind(arguments, [], required: 0, in: filter.rawValue)
      return try applyWithoutArguments(filter, to: value)
    default: return try applyWithArguments(filter, to: value, arguments)
    }
  }

  private func applyWithoutArguments(_ filter: Filter, to value: Value) throws(TemplateError) -> Value {
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
    // Reading the properties of a character takes longer than reading its bytes.
    if filter != .safe, filter != .string { try charge(2 * text.bytes.count) }
    switch filter {
    case .safe: text.isMarkup = true
    case .upper: return .string(text.uppercased())
    case .lower: return .string(text.lowercased())
    case .capitalize: return .string(text.capitalized())
    case .title: return .string(text.wordsCapitalized())
    default: break
    }
    return .string(text)
  }

  private func applyWithArguments(
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
        for offset in items.indices { items[offset] = try lookUp(attribute, in: items[offset]) }
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
    default: return try applyToSequence(filter, value, arguments)
    }
  }

  func isNone(_ value: Value) -> Bool { if case .none = value { true } else { false } }
}
