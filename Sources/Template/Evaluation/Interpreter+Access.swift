extension Interpreter {
  /// The items that a `for` over the value visits.
  func iterate(_ value: Value) throws(TemplateError) -> [Value] {
    switch value {
    case .list(let list), .tuple(let list): return list.items
    case .mapping(let mapping): return mapping.keys
    case .view(let view): return view.items
    case .string(let text):
      let ends = try boundaries(text)
      try allocate(elements: ends.count)
      var items: [Value] = []
      items.reserveCapacity(max(ends.count - 1, 0))
      for (start, end) in zip(ends, ends.dropFirst()) { items.append(.string(text[start..<end])) }
      return items
    case .range(let range):
      try allocate(elements: range.count)
      return (0..<range.count).map { .int(range.value(at: $0)) }
    case .generator(let generator): return generator.rest()
    case .undefined: return []
    default: throw fail("'\(value.typeName)' object is not iterable")
    }
  }

  /// The byte offset of each code point of a text, and the text's end.
  func boundaries(_ text: Text) throws(TemplateError) -> [Int] {
    try allocate(8 * text.bytes.count)
    var result: [Int] = []
    result.reserveCapacity(text.bytes.count + 1)
    for (index, byte) in text.bytes.enumerated() where !UTF8Bytes.isContinuation(byte) { result.append(index) }
    result.append(text.bytes.count)
    return result
  }

  /// Python's `len(value)`.
  func length(_ value: Value) throws(TemplateError) -> Int {
    switch value {
    case .string(let text):
      try read(text.bytes.count)
      return UTF8Bytes.count(text.bytes)
    case .list(let list), .tuple(let list): return list.items.count
    case .mapping(let mapping): return mapping.count
    case .view(let view): return view.items.count
    case .range(let range): return range.count
    case .loop(let loop): return loop.items.count
    case .undefined: return 0
    default: throw fail("object of type '\(value.typeName)' has no len()")
    }
  }

  func integer(_ value: Value, in function: String) throws(TemplateError) -> Int {
    switch value {
    case .int(let value, _): return value
    case .bool(let value, _): return value ? 1 : 0
    case .undefined(let missing): throw fail(missing.message)
    default: throw fail("\(function): '\(value.typeName)' object cannot be interpreted as an integer")
    }
  }

  func string(_ value: Value, in function: String) throws(TemplateError) -> Text {
    switch value {
    case .string(let text): return text
    default: throw fail("\(function): argument must be str, not \(value.typeName)")
    }
  }

  // MARK: Attributes

  /// `value.name`: an attribute, or else an item.
  func attribute(of value: Value, _ name: AttributeName) throws(TemplateError) -> Value {
    if let method = name.method {
      if value.has(method) { return try checked(.method(BoundMethod(receiver: value, method: method))) }
      if value.withholds(method) { return .undefined(.unsafe(owner: value.typeName, name.string)) }
    }
    switch value {
    case .undefined(let missing): throw fail(missing.message)
    case .mapping(let mapping):
      return mapping[name.text] ?? .undefined(.attribute(owner: "dict", name.string))
    case .namespace(let namespace):
      return namespace[name.text] ?? .undefined(.attribute(owner: "Namespace", name.string))
    case .loop(let loop): return try attribute(of: loop, name.string)
    case .macro(let macro) where name.string == "name": return .string(macro.definition.name)
    case .macro(let macro) where name.string == "arguments":
      return .tuple(List(macro.definition.parameters.map { .string($0.name) }))
    case .range(let range):
      switch name.string {
      case "start": return .int(range.start)
      case "stop": return .int(range.stop)
      case "step": return .int(range.step)
      default: break
      }
    default: break
    }
    return .undefined(.attribute(owner: value.typeName, name.string))
  }

  private func attribute(of loop: Loop, _ name: String) throws(TemplateError) -> Value {
    switch name {
    case "index": return .int(loop.index + 1)
    case "index0": return .int(loop.index)
    case "revindex": return .int(loop.items.count - loop.index)
    case "revindex0": return .int(loop.items.count - loop.index - 1)
    case "first": return .bool(loop.index == 0)
    case "last": return .bool(loop.index + 1 == loop.items.count)
    case "length": return .int(loop.items.count)
    case "depth": return .int(loop.depth0 + 1)
    case "depth0": return .int(loop.depth0)
    case "previtem":
      return loop.index > 0 ? loop.items[loop.index - 1] : .undefined(.message("there is no previous item"))
    case "nextitem":
      return loop.index + 1 < loop.items.count
        ? loop.items[loop.index + 1] : .undefined(.message("there is no next item"))
    default: return .undefined(.attribute(owner: "LoopContext", name))
    }
  }

  /// `value[key]`: an item, or else an attribute of that name.
  func item(of value: Value, _ key: Value) throws(TemplateError) -> Value {
    switch (value, key) {
    case (.undefined(let missing), _): throw fail(missing.message)
    case (.mapping(let mapping), .string(let name)):
      if let found = mapping[name] { return found }
    case (.mapping(let mapping), _):
      if let hashed = Key(key), let found = mapping[hashed] { return found }
    case (.string(let text), _):
      if case .int(let index)? = Number(key), !isDouble(key) {
        guard let range = try codePoint(index, of: text) else { return .undefined(missingItem(value, key)) }
        return .string(text[range])
      }
    case (.list(let list), _), (.tuple(let list), _):
      if case .int(let index)? = Number(key), !isDouble(key) {
        let offset = index < 0 ? index + list.items.count : index
        return list.items.indices.contains(offset) ? list.items[offset] : .undefined(missingItem(value, key))
      }
    case (.range(let range), _):
      if case .int(let index)? = Number(key), !isDouble(key) {
        let offset = index < 0 ? index + range.count : index
        return (0..<range.count).contains(offset) ? .int(range.value(at: offset)) : .undefined(missingItem(value, key))
      }
    default: break
    }
    if case .string(let name) = key {
      if case .mapping = value, Method(rawValue: name.string) == nil {
        return .undefined(.attribute(owner: "dict", name.string))
      }
      if case .namespace = value { return try attribute(of: value, AttributeName(name.string)) }
      return try attribute(of: value, AttributeName(name.string))
    }
    return .undefined(missingItem(value, key))
  }

  private func isDouble(_ value: Value) -> Bool { if case .double = value { true } else { false } }

  private func missingItem(_ value: Value, _ key: Value) -> Missing {
    switch key {
    case .int(let index, _): .message("\(value.typeName) object has no element \(index)")
    default: .message("\(value.typeName) object has no such element")
    }
  }

  private func codePoint(_ index: Int, of text: Text) throws(TemplateError) -> Range<Int>? {
    try read(text.bytes.count)
    let bytes = text.bytes
    if index >= 0 {
      var left = index
      for start in bytes.indices where !UTF8Bytes.isContinuation(bytes[start]) {
        if left == 0 { return start..<min(start + UTF8Bytes.length(lead: bytes[start]), bytes.count) }
        left -= 1
      }
      return nil
    }
    var left = index
    for start in bytes.indices.reversed() where !UTF8Bytes.isContinuation(bytes[start]) {
      left += 1
      if left == 0 { return start..<min(start + UTF8Bytes.length(lead: bytes[start]), bytes.count) }
    }
    return nil
  }

  // MARK: Slices

  func slice(of value: Value, start: Int?, stop: Int?, step: Int?) throws(TemplateError) -> Value {
    if case .undefined(let missing) = value { throw fail(missing.message) }
    let step = step ?? 1
    guard step != 0 else { throw fail("slice step cannot be zero") }
    switch value {
    case .list(let list):
      let offsets = offsets(list.items.count, start, stop, step)
      try allocate(elements: offsets.count)
      return .list(List(offsets.map { list.items[$0] }))
    case .tuple(let list):
      let offsets = offsets(list.items.count, start, stop, step)
      try allocate(elements: offsets.count)
      return .tuple(List(offsets.map { list.items[$0] }))
    case .range(let range):
      let offsets = offsets(range.count, start, stop, step)
      guard let first = offsets.first else {
        return .range(IntegerRange(start: range.start, step: range.step, count: 0, stop: range.start))
      }
      let (pace, overflow) = range.step.multipliedReportingOverflow(by: step)
      guard !overflow else { throw fail("an integer beyond 64 bits") }
      let begin = range.value(at: first)
      return .range(
        IntegerRange(start: begin, step: pace, count: offsets.count, stop: begin &+ pace &* offsets.count))
    case .string(let text):
      let ends = try boundaries(text)
      let offsets = offsets(ends.count - 1, start, stop, step)
      try allocate(elements: step == 1 ? 0 : offsets.count)
      guard let first = offsets.first, let last = offsets.last else { return .string(Text()) }
      if step == 1 {
        let part = text[ends[first]..<ends[last + 1]]
        try allocate(part)
        return .string(part)
      }
      var result = Text()
      result.isMarkup = text.isMarkup
      for offset in offsets { result.append(text, ends[offset]..<ends[offset + 1]) }
      return .string(result)
    default: return .undefined(.message("\(value.typeName) object cannot be sliced"))
    }
  }

  /// The indices of Python's `slice(start, stop, step)` over `count` elements.
  private func offsets(_ count: Int, _ start: Int?, _ stop: Int?, _ step: Int) -> SliceIndices {
    let lowest = step > 0 ? 0 : -1
    let highest = step > 0 ? count : count - 1
    func bounded(_ index: Int) -> Int { min(max(index < 0 ? index + count : index, lowest), highest) }
    let first = start.map(bounded) ?? (step > 0 ? 0 : count - 1)
    let end = stop.map(bounded) ?? (step > 0 ? count : -1)
    return SliceIndices(from: first, to: end, by: step)
  }
}

/// The indices that a slice selects, in the order of the slice.
struct SliceIndices: RandomAccessCollection {
  let from: Int
  let by: Int
  let count: Int

  init(from: Int, to: Int, by: Int) {
    self.from = from
    self.by = by
    let distance = by > 0 ? to - from : from - to
    count = distance <= 0 ? 0 : Int((UInt(distance) - 1) / by.magnitude) + 1
  }

  var startIndex: Int { 0 }
  var endIndex: Int { count }
  subscript(position: Int) -> Int { from + position * by }
}
