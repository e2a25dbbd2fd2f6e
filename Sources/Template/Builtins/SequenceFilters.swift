extension Interpreter {
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
      let places = try sorted(Array(items.indices), by: { keys[$0] }, reverse: given[0]?.isTrue ?? false)
      return try list(places.map { items[$0] })
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
    case .batch:
      let given = try bound("linecount", "fill_with", required: 1)
      let size = try integer(given[0] ?? .none, in: "batch")
      var rows: [Value] = []
      var row: [Value] = []
      for item in try iterate(value) {
        try charge()
        if row.count == size {
          rows.append(try list(row))
          row = []
        }
        row.append(item)
      }
      if !row.isEmpty {
        if let fill = given[1], !isNone(fill), row.count < size {
          try allocate(elements: size - row.count)
          row += [Value](repeating: fill, count: size - row.count)
        }
        rows.append(try list(row))
      }
      return try generator(rows)
    case .slice:
      let given = try bound("slices", "fill_with", required: 1)
      return try sliced(value, into: try integer(given[0] ?? .none, in: "slice"), fill: given[1])
    case .groupby: return try grouped(value, try bound("attribute", "default", "case_sensitive", required: 1))
    default: throw fail("no filter named '\(filter.rawValue)'")
    }
  }

  private func sliced(_ value: Value, into count: Int, fill: Value?) throws(TemplateError) -> Value {
    let items = try iterate(value)
    guard count != 0 else { throw fail("integer division or modulo by zero") }
    guard count > 0 else { return try generator([]) }
    try allocate(elements: count)
    try allocate(elements: items.count)
    let size = items.count / count
    let extra = items.count % count
    var start = 0
    var rows: [Value] = []
    for number in 0..<count {
      let end = start + size + (number < extra ? 1 : 0)
      var row = Array(items[start..<end])
      if number >= extra, let fill, !isNone(fill) { row.append(fill) }
      rows.append(try list(row))
      start = end
    }
    return try generator(rows)
  }

  private func grouped(_ value: Value, _ given: [Value?]) throws(TemplateError) -> Value {
    let attribute = given[0] ?? .none
    let items = try iterate(value)
    try allocate(elements: items.count * 2)
    var names: [Value] = []
    var keys: [Value] = []
    for item in items {
      var name = try lookUp(attribute, in: item)
      if case .undefined = name, let fallback = given[1], !isNone(fallback) { name = fallback }
      names.append(name)
      keys.append(try caseless(name, unless: given[2]?.isTrue ?? false))
    }
    let places = try sorted(Array(items.indices), by: { keys[$0] }, reverse: false)
    var groups: [Value] = []
    var group: [Int] = []
    func close() throws(TemplateError) {
      guard let first = group.first else { return }
      groups.append(try checked(.tuple(List([names[first], .list(List(group.map { items[$0] }))], isGroup: true))))
    }
    for place in places {
      if let first = group.first, !(try equal(keys[first], keys[place])) {
        try close()
        group = []
      }
      group.append(place)
    }
    try close()
    return try list(groups)
  }

  // MARK: Order

  /// The places in the order of their keys; stable, reversed too.
  func sorted(_ places: [Int], by key: (Int) -> Value, reverse: Bool) throws(TemplateError) -> [Int] {
    try allocate(elements: places.count)
    var current = places
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
          // What is equal stays in its order, in a reversed sort too.
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
    let places = try sorted(Array(pairs.indices), by: { keys[$0] }, reverse: given[2]?.isTrue ?? false)
    return try list(places.map { pairs[$0] })
  }

  // MARK: Selecting

  /// jinja2's attribute paths: parts between dots, numbers as indices.
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
    guard let filter = Filter(rawValue: name) else { throw fail("no filter named '\(name)'") }
    try enter()
    for item in items {
      try charge()
      result.append(try apply(filter, to: item, arguments))
    }
    leave()
    return try generator(result)
  }

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
