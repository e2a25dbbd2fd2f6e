extension Interpreter {
  /// Applies a filter that reads a sequence and takes arguments.
  func applyToSequence(_ filter: Filter, _ value: Value, _ arguments: CallArguments) throws(TemplateError) -> Value {
    func bound(_ names: String..., required: Int = 0) throws(TemplateError) -> [Value?] {
      try bind(arguments, names, required: required, in: filter.rawValue)
    }
    switch filter {
    case .sort:
      let given = try bound("reverse", "case_sensitive", "attribute")
      let items = try iterate(value)
      var keys: [Value] = []
      try allocate(elements: items.count)
      for item in items {
        keys.append(try sortKey(item, given[2], caseSensitive: given[1]?.isTrue ?? false))
      }
      let offsets = try sorted(Array(items.indices), by: { keys[$0] }, reverse: given[0]?.isTrue ?? false)
      return try list(offsets.map { items[$0] })
    case .dictsort: return try dictionarySorted(value, try bound("case_sensitive", "by", "reverse"))
    case .unique:
      let given = try bound("case_sensitive", "attribute")
      var seen: Set<Key> = []
      var kept: [Value] = []
      for item in try iterate(value) {
        try charge(4)
        let key = try caseless(
          given[1].map { value throws(TemplateError) in try lookUp(value, in: item) } ?? item,
          unless: given[0]?.isTrue ?? false)
        if case .undefined = key {
          kept.append(item)
          continue
        }
        guard let hashed = Key(key) else { throw fail("unhashable type: '\(key.typeName)'") }
        if seen.insert(hashed).inserted { kept.append(item) }
      }
      return try generator(kept)
    case .min, .max:
      let given = try bound("case_sensitive", "attribute")
      var best: (item: Value, key: Value)?
      for item in try iterate(value) {
        let key = try caseless(
          given[1].map { value throws(TemplateError) in try lookUp(value, in: item) } ?? item,
          unless: given[0]?.isTrue ?? false)
        guard let current = best else {
          best = (item, key)
          continue
        }
        let order = try filter == .min ? compare(key, current.key) : compare(current.key, key)
        if let order, order < 0 { best = (item, key) }
      }
      return best?.item ?? .undefined(.message("no aggregated item, sequence was empty"))
    case .sum:
      let given = try bound("attribute", "start")
      var total = given[1] ?? .int(0)
      if case .string = total { throw fail("sum() can't sum strings [use ''.join(seq) instead]") }
      for item in try iterate(value) {
        var term = item
        if let attribute = given[0], !isNone(attribute) { term = try lookUp(attribute, in: item) }
        total = try apply(.add, total, term)
      }
      return total
    default: throw fail(Filter.reasonForMissing(filter.rawValue))
    }
  }

  // MARK: Order

  /// Indices in the order of their keys. The sort is stable, also if it is reversed.
  func sorted(_ indices: [Int], by key: (Int) -> Value, reverse: Bool) throws(TemplateError) -> [Int] {
    try allocate(elements: indices.count)
    var current = indices
    var width = 1
    while width < current.count {
      var next: [Int] = []
      next.reserveCapacity(current.count)
      var start = 0
      while start < current.count {
        let middle = min(start + width, current.count)
        let end = min(start + 2 * width, current.count)
        var left = start
        var right = middle
        while left < middle, right < end {
          // Equal keys keep their order, also in a reversed sort, as in Python.
          let takesRight =
            reverse
            ? (try compare(key(current[left]), key(current[right])) ?? 0) < 0
            : (try compare(key(current[right]), key(current[left])) ?? 0) < 0
          next.append(takesRight ? current[right] : current[left])
          if takesRight { right += 1 } else { left += 1 }
        }
        next += current[left..<middle]
        next += current[right..<end]
        start = end
      }
      current = next
      width *= 2
    }
    return current
  }

  /// A key to compare by: a string in lower case, unless case matters.
  private func caseless(_ value: Value, unless isSensitive: Bool) throws(TemplateError) -> Value {
    guard !isSensitive, case .string(let text) = value else { return value }
    try allocate(text.bytes.count)
    return .string(text.lowercased())
  }

  private func sortKey(_ item: Value, _ attribute: Value?, caseSensitive: Bool) throws(TemplateError) -> Value {
    guard let attribute, !isNone(attribute) else { return try caseless(item, unless: caseSensitive) }
    var keys: [Value] = []
    if case .string(let names) = attribute {
      for name in names.string.split(separator: ",", omittingEmptySubsequences: false) {
        keys.append(try caseless(try lookUp(.string(String(name)), in: item), unless: caseSensitive))
      }
    } else {
      keys = [try caseless(try lookUp(attribute, in: item), unless: caseSensitive)]
    }
    return .list(List(keys))
  }

  private func dictionarySorted(_ value: Value, _ given: [Value?]) throws(TemplateError) -> Value {
    guard case .mapping(let mapping) = value else {
      if case .undefined(let missing) = value { throw fail(missing.message) }
      throw fail("'\(value.typeName)' object has no attribute 'items'")
    }
    let by = try given[1].map { value throws(TemplateError) in try text(of: value).string } ?? "key"
    guard by == "key" || by == "value" else { throw fail("you can only sort by either \"key\" or \"value\"") }
    var keys: [Value] = []
    for key in by == "key" ? mapping.keys : mapping.values {
      keys.append(try caseless(key, unless: given[0]?.isTrue ?? false))
    }
    let pairs = try pairs(of: mapping)
    let offsets = try sorted(Array(pairs.indices), by: { keys[$0] }, reverse: given[2]?.isTrue ?? false)
    return try list(offsets.map { pairs[$0] })
  }

  // MARK: Selecting

  /// An attribute by jinja2's path: names and indices with dots between them.
  func lookUp(_ path: Value, in item: Value) throws(TemplateError) -> Value {
    guard case .string(let text) = path else {
      return isNone(path) ? item : try self.item(of: item, path)
    }
    var value = item
    for part in text.string.split(separator: ".", omittingEmptySubsequences: false) {
      try charge()
      let isIndex = !part.isEmpty && part.utf8.allSatisfy { (48...57).contains($0) }
      value = try self.item(of: value, isIndex ? .int(Int(part) ?? Int.max) : .string(String(part)))
    }
    return value
  }

  /// The filter `map`.
  func mapped(_ value: Value, _ arguments: CallArguments) throws(TemplateError) -> Value {
    var arguments = arguments
    guard value.isTrue else { return try generator([]) }
    let items = try iterate(value)
    var result: [Value] = []
    try allocate(elements: items.count)
    if arguments.positional.isEmpty, let attribute = arguments.takeKeyword("attribute") {
      let fallback = arguments.takeKeyword("default")
      if let extra = arguments.keywords.first { throw fail("unexpected keyword argument '\(extra.name)'") }
      for item in items {
        var found = try lookUp(attribute, in: item)
        if case .undefined = found, let fallback, !isNone(fallback) { found = fallback }
        result.append(found)
      }
      return try generator(result)
    }
    guard !arguments.positional.isEmpty else { throw fail("map requires a filter argument") }
    let name = try text(of: arguments.positional.removeFirst()).string
    guard let filter = Filter(rawValue: name) else { throw fail(Filter.reasonForMissing(name)) }
    try enter()
    for item in items {
      try charge()
      result.append(try apply(filter, to: item, arguments))
    }
    leave()
    return try generator(result)
  }

  /// The filters `select`, `reject`, `selectattr` and `rejectattr`.
  func selected(
    _ value: Value, _ arguments: CallArguments, keeps: Bool, byAttribute: Bool
  ) throws(TemplateError) -> Value {
    var arguments = arguments
    guard value.isTrue else { return try generator([]) }
    var attribute: Value?
    if byAttribute {
      guard !arguments.positional.isEmpty else { throw fail("missing parameter for attribute name") }
      attribute = arguments.positional.removeFirst()
    }
    var test: Test?
    if !arguments.positional.isEmpty {
      let name = try text(of: arguments.positional.removeFirst()).string
      guard let found = Test(rawValue: name) else { throw fail("no test named '\(name)'") }
      test = found
    }
    var result: [Value] = []
    for item in try iterate(value) {
      try charge()
      let subject = if let attribute { try lookUp(attribute, in: item) } else { item }
      let holds = if let test { try apply(test, to: subject, arguments) } else { subject.isTrue }
      if holds == keeps { result.append(item) }
    }
    try allocate(elements: result.count)
    return try generator(result)
  }
}
