/// The methods of strings, lists, tuples, dictionaries, ranges and loops.
enum Method: String, Sendable {
  case capitalize, casefold, center, count, endswith, expandtabs, find, format, index, isalnum, isalpha, isascii
  case isdecimal, isdigit, isidentifier, islower, isnumeric, isprintable, isspace, istitle, isupper, join, ljust, lower
  case lstrip, partition, removeprefix, removesuffix, replace, rfind, rindex, rjust, rpartition, rsplit, rstrip, split
  case splitlines, startswith, strip, swapcase, title, upper, zfill
  case get, items, keys, values, copy
  case append, clear, extend, insert, pop, popitem, remove, reverse, setdefault, sort, update
  case cycle, changed

  fileprivate static let ofStrings: Set<Method> = [
    .capitalize, .casefold, .center, .count, .endswith, .expandtabs, .find, .format, .index, .isalnum, .isalpha,
    .isascii, .isdecimal, .isdigit, .isidentifier, .islower, .isnumeric, .isprintable, .isspace, .istitle, .isupper,
    .join, .ljust, .lower, .lstrip, .partition, .removeprefix, .removesuffix, .replace, .rfind, .rindex, .rjust,
    .rpartition, .rsplit, .rstrip, .split, .splitlines, .startswith, .strip, .swapcase, .title, .upper, .zfill,
  ]
}

extension Value {
  /// Whether the value has a method.
  func has(_ method: Method) -> Bool {
    switch self {
    case .string: Method.ofStrings.contains(method)
    case .list: [.count, .index, .copy].contains(method)
    case .tuple, .range: method == .count || method == .index
    case .mapping: [.get, .items, .keys, .values, .copy].contains(method)
    case .loop: method == .cycle || method == .changed
    default: false
    }
  }

  /// Whether it is a method that Python has and the sandbox forbids, because it changes its object.
  func withholds(_ method: Method) -> Bool {
    switch self {
    case .list: [.append, .clear, .extend, .insert, .pop, .remove, .reverse, .sort].contains(method)
    case .mapping: [.clear, .pop, .popitem, .setdefault, .update].contains(method)
    default: false
    }
  }
}

extension Interpreter {
  func call(_ method: Method, on receiver: Value, _ arguments: CallArguments) throws(TemplateError) -> Value {
    switch receiver {
    case .string(let text): return try call(method, on: text, arguments)
    case .mapping(let mapping): return try call(method, on: mapping, arguments)
    case .list(let list):
      if method == .copy { return receiver }
      return try search(list.items, method, arguments, type: "list")
    case .tuple(let list): return try search(list.items, method, arguments, type: "tuple")
    case .range: return try search(try iterate(receiver), method, arguments, type: "range")
    case .loop(let loop):
      guard arguments.keywords.isEmpty else { throw fail("loop.\(method.rawValue)() takes no keyword arguments") }
      if method == .changed { return .bool(try changed(loop, arguments.positional)) }
      guard !arguments.positional.isEmpty else { throw fail("no items for cycling given") }
      return arguments.positional[loop.index % arguments.positional.count]
    default: throw fail("'\(receiver.typeName)' object has no method '\(method.rawValue)'")
    }
  }

  private func changed(_ loop: Loop, _ values: [Value]) throws(TemplateError) -> Bool {
    if let last = loop.lastChanged, last.count == values.count {
      var isSame = true
      for (one, other) in zip(last, values) where isSame { isSame = try equal(one, other) }
      if isSame { return false }
    }
    try allocate(64)
    if loop.lastChanged == nil { changedLoops.append(loop) }
    loop.lastChanged = values
    return true
  }

  private func search(
    _ items: [Value], _ method: Method, _ arguments: CallArguments, type: String
  ) throws(TemplateError) -> Value {
    let values = try bind(arguments, ["value", "start", "stop"], required: 1, in: method.rawValue)
    let wanted = values[0] ?? .none
    if method == .count {
      var count = 0
      for item in items where try equal(item, wanted) { count += 1 }
      return .int(count)
    }
    func bounded(_ value: Value?, _ fallback: Int) throws(TemplateError) -> Int {
      guard let value else { return fallback }
      let index = try integer(value, in: method.rawValue)
      return min(max(index < 0 ? index + items.count : index, 0), items.count)
    }
    let start = try bounded(values[1], 0)
    let stop = try bounded(values[2], items.count)
    if start < stop {
      for offset in start..<stop where try equal(items[offset], wanted) { return .int(offset) }
    }
    throw fail("\(try representation(of: wanted).string) is not in \(type)")
  }

  private func call(
    _ method: Method, on mapping: Mapping, _ arguments: CallArguments
  ) throws(TemplateError) -> Value {
    switch method {
    case .get:
      guard arguments.keywords.isEmpty else { throw fail("get() takes no keyword arguments") }
      let values = try bind(arguments, ["key", "default"], required: 1, in: "get")
      let key = values[0] ?? .none
      if case .string(let name) = key { return mapping[name] ?? values[1] ?? .none }
      if case .undefined = key { return values[1] ?? .none }
      guard let hashed = Key(key) else { throw fail("unhashable type: '\(key.typeName)'") }
      return mapping[hashed] ?? values[1] ?? .none
    default:
      _ = try bind(arguments, [], required: 0, in: method.rawValue)
      switch method {
      case .copy: return .mapping(mapping)
      case .keys:
        try charge(mapping.count)
        return .view(View(.keys, mapping.keys))
      case .values:
        try charge(mapping.count)
        return .view(View(.values, mapping.values))
      default: return .view(View(.items, try pairs(of: mapping)))
      }
    }
  }

  /// The pairs of a mapping, each a tuple of key and value.
  func pairs(of mapping: Mapping) throws(TemplateError) -> [Value] {
    try allocate(elements: 3 * mapping.count)
    var result: [Value] = []
    result.reserveCapacity(mapping.count)
    for (key, value) in zip(mapping.keys, mapping.values) { result.append(.tuple(List([key, value]))) }
    return result
  }
}
