/// A number as Python's arithmetic sees it; booleans are integers.
enum Number {
  case int(Int)
  case double(Double)

  init?(_ value: Value) {
    switch value {
    case .bool(let value, _): self = .int(value ? 1 : 0)
    case .int(let value, _): self = .int(value)
    case .double(let value, _): self = .double(value)
    default: return nil
    }
  }

  var double: Double {
    switch self {
    case .int(let value): Double(value)
    case .double(let value): value
    }
  }
}

extension Interpreter {
  func apply(_ operation: BinaryOperation, _ left: Value, _ right: Value) throws(TemplateError) -> Value {
    if case .undefined(let missing) = left { throw fail(missing.message) }
    if case .string(let text) = left, case .modulo = operation { return .string(try format(text, percent: right)) }
    if case .undefined(let missing) = right { throw fail(missing.message) }
    if let first = Number(left), let second = Number(right) {
      if case .int(let first) = first, case .int(let second) = second {
        return try integers(operation, first, second)
      }
      return .double(try doubles(operation, first.double, second.double))
    }
    switch (operation, left, right) {
    case (.add, .string(let first), .string(let second)): return .string(try joined(first, second))
    case (.add, .list(let first), .list(let second)):
      try allocate(elements: first.items.count + second.items.count)
      return try list(first.items + second.items)
    case (.add, .tuple(let first), .tuple(let second)):
      try allocate(elements: first.items.count + second.items.count)
      return try checked(.tuple(List(first.items + second.items)))
    case (.multiply, .string, _), (.multiply, .list, _), (.multiply, .tuple, _):
      if case .int(let count)? = Number(right) { return try repeated(left, count) }
    case (.multiply, _, .string), (.multiply, _, .list), (.multiply, _, .tuple):
      if case .int(let count)? = Number(left) { return try repeated(right, count) }
    default: break
    }
    if case .add = operation, case .string = left {
      throw fail("can only concatenate str (not \"\(right.typeName)\") to str")
    }
    throw fail("unsupported operand type(s) for \(operation.symbol): '\(left.typeName)' and '\(right.typeName)'")
  }

  /// `first + second`. If one of them is markup, the other is escaped, as MarkupSafe does.
  func joined(_ first: Text, _ second: Text) throws(TemplateError) -> Text {
    try allocate(first)
    try allocate(second)
    guard first.isMarkup || second.isMarkup else {
      var result = first
      result.append(second)
      return result
    }
    var result = first.isMarkup ? first : try escaped(first)
    result.append(second.isMarkup ? second : try escaped(second))
    result.isMarkup = true
    return result
  }

  private func repeated(_ value: Value, _ count: Int) throws(TemplateError) -> Value {
    let times = max(count, 0)
    func total(_ size: Int) throws(TemplateError) -> Int {
      let (product, overflow) = size.multipliedReportingOverflow(by: times)
      if overflow { throw limit("rendering makes more than \(limits.allocatedBytes) bytes of values") }
      return product
    }
    switch value {
    case .string(let text):
      if text.isEmpty { return value }
      try allocate(try total(text.bytes.count))
      try allocate(elements: try total(text.markCount))
      var result = Text()
      result.isMarkup = text.isMarkup
      result.bytes.reserveCapacity(text.bytes.count * times)
      for _ in 0..<times { result.append(text) }
      return .string(result)
    case .list(let list), .tuple(let list):
      if list.items.isEmpty { return value }
      try allocate(elements: try total(list.items.count))
      var items: [Value] = []
      items.reserveCapacity(list.items.count * times)
      for _ in 0..<times { items += list.items }
      if case .tuple = value { return .tuple(List(items)) }
      return .list(List(items))
    default: return value
    }
  }

  // MARK: Arithmetic

  private func integers(_ operation: BinaryOperation, _ left: Int, _ right: Int) throws(TemplateError) -> Value {
    let result: (partialValue: Int, overflow: Bool)
    switch operation {
    case .add: result = left.addingReportingOverflow(right)
    case .subtract: result = left.subtractingReportingOverflow(right)
    case .multiply: result = left.multipliedReportingOverflow(by: right)
    case .divide:
      guard right != 0 else { throw fail("division by zero") }
      return .double(Double(left) / Double(right))
    case .floorDivide, .modulo:
      guard right != 0 else { throw fail("integer division or modulo by zero") }
      let (quotient, overflow) = left.dividedReportingOverflow(by: right)
      let remainder = overflow ? 0 : left % right
      let adjusts = remainder != 0 && (remainder < 0) != (right < 0)
      if case .modulo = operation { return .int(adjusts ? remainder + right : remainder) }
      result = (adjusts ? quotient - 1 : quotient, overflow)
    case .power:
      if right < 0 {
        guard left != 0 else { throw fail("0.0 cannot be raised to a negative power") }
        return .double(try power(Double(left), Double(right)))
      }
      return .int(try power(left, right))
    }
    guard !result.overflow else { throw fail("an integer beyond 64 bits") }
    return .int(result.partialValue)
  }

  private func power(_ base: Int, _ exponent: Int) throws(TemplateError) -> Int {
    var result = 1
    var square = base
    var rest = exponent
    while rest > 0 {
      if rest & 1 == 1 {
        let (product, overflow) = result.multipliedReportingOverflow(by: square)
        guard !overflow else { throw fail("an integer beyond 64 bits") }
        result = product
      }
      rest >>= 1
      guard rest > 0 else { break }
      let (product, overflow) = square.multipliedReportingOverflow(by: square)
      guard !overflow else { throw fail("an integer beyond 64 bits") }
      square = product
    }
    return result
  }

  private func doubles(_ operation: BinaryOperation, _ left: Double, _ right: Double) throws(TemplateError) -> Double {
    switch operation {
    case .add: return left + right
    case .subtract: return left - right
    case .multiply: return left * right
    case .divide:
      guard right != 0 else { throw fail("float division by zero") }
      return left / right
    case .floorDivide, .modulo:
      guard right != 0 else { throw fail("float modulo by zero") }
      var remainder = left.truncatingRemainder(dividingBy: right)
      if remainder != 0, (remainder < 0) != (right < 0) { remainder += right }
      if case .modulo = operation { return remainder == 0 ? (right < 0 ? -0.0 : 0.0) : remainder }
      let quotient = (left - remainder) / right
      let floor = quotient.rounded(.down)
      return quotient - floor > 0.5 ? floor + 1 : floor
    case .power: return try power(left, right)
    }
  }

  /// Only whole exponents and 0.5 are supported; the standard library has no others.
  private func power(_ base: Double, _ exponent: Double) throws(TemplateError) -> Double {
    if exponent == 0.5, base >= 0 { return base.squareRoot() }
    guard exponent.rounded() == exponent, exponent.magnitude < 2_147_483_648 else {
      throw fail("powers with a fractional exponent are not supported")
    }
    var result = 1.0
    var square = base
    var rest = Int(exponent.magnitude)
    while rest > 0 {
      if rest & 1 == 1 { result *= square }
      rest >>= 1
      square *= square
    }
    if exponent < 0 {
      guard base != 0 else { throw fail("0.0 cannot be raised to a negative power") }
      return 1 / result
    }
    guard result.isFinite || !base.isFinite else { throw fail("numerical result out of range") }
    return result
  }

  func signed(_ value: Value, negates: Bool) throws(TemplateError) -> Value {
    switch Number(value) {
    case .int(let number)?:
      if !negates { return .int(number) }
      let (result, overflow) = 0.subtractingReportingOverflow(number)
      guard !overflow else { throw fail("an integer beyond 64 bits") }
      return .int(result)
    case .double(let number)?: return .double(negates ? -number : number)
    case nil:
      if case .undefined(let missing) = value { throw fail(missing.message) }
      throw fail("bad operand type for unary \(negates ? "-" : "+"): '\(value.typeName)'")
    }
  }

  // MARK: Comparison

  func holds(_ comparison: Comparison, _ left: Value, _ right: Value) throws(TemplateError) -> Bool {
    switch comparison {
    case .equal: try equal(left, right)
    case .notEqual: !(try equal(left, right))
    case .in: try contains(right, left)
    case .notIn: !(try contains(right, left))
    case .less: try ordered(left, right, "<") { $0 < 0 }
    case .lessOrEqual: try ordered(left, right, "<=") { $0 <= 0 }
    case .greater: try ordered(left, right, ">") { $0 > 0 }
    case .greaterOrEqual: try ordered(left, right, ">=") { $0 >= 0 }
    }
  }

  func equal(_ left: Value, _ right: Value) throws(TemplateError) -> Bool {
    try charge()
    if let first = Number(left), let second = Number(right) {
      if case .int(let first) = first, case .int(let second) = second { return first == second }
      return first.double == second.double
    }
    switch (left, right) {
    case (.string(let first), .string(let second)):
      guard first.bytes.count == second.bytes.count else { return false }
      try read(first.bytes.count)
      return first.bytes == second.bytes
    case (.none, .none), (.undefined, .undefined): return true
    case (.list(let first), .list(let second)), (.tuple(let first), .tuple(let second)):
      guard first !== second else { return true }
      guard first.items.count == second.items.count else { return false }
      for (one, other) in zip(first.items, second.items) where !(try equal(one, other)) { return false }
      return true
    case (.mapping(let first), .mapping(let second)):
      guard first !== second else { return true }
      guard first.count == second.count else { return false }
      for (key, value) in zip(first.keys, first.values) {
        guard let hashed = Key(key), let other = second[hashed], try equal(value, other) else { return false }
      }
      return true
    case (.range(let first), .range(let second)):
      return first.count == second.count && (first.count == 0 || first.start == second.start)
        && (first.count < 2 || first.step == second.step)
    case (.view(let first), .view(let second)):
      guard first.kind == second.kind, first.kind != .values, first.items.count == second.items.count else {
        return false
      }
      for item in first.items where !(try contains(.view(second), item)) { return false }
      return true
    case (.namespace(let first), .namespace(let second)): return first === second
    case (.macro(let first), .macro(let second)): return first === second
    case (.loop(let first), .loop(let second)): return first === second
    case (.generator(let first), .generator(let second)): return first === second
    case (.function(let first), .function(let second)): return first == second
    case (.method(let first), .method(let second)):
      guard first.method == second.method else { return false }
      return try equal(first.receiver, second.receiver)
    default: return false
    }
  }

  private func ordered(
    _ left: Value, _ right: Value, _ symbol: String, _ holds: (Int) -> Bool
  ) throws(TemplateError) -> Bool {
    guard let order = try compare(left, right, symbol) else { return false }
    return holds(order)
  }

  /// A negative number if left comes first, 0 if they are equal, a positive number if right comes first; `nil` if one is NaN.
  func compare(_ left: Value, _ right: Value, _ symbol: String = "<") throws(TemplateError) -> Int? {
    try charge()
    if let first = Number(left), let second = Number(right) {
      if case .int(let first) = first, case .int(let second) = second {
        return first < second ? -1 : first == second ? 0 : 1
      }
      let (one, other) = (first.double, second.double)
      return one < other ? -1 : one == other ? 0 : one > other ? 1 : nil
    }
    switch (left, right) {
    case (.string(let first), .string(let second)):
      try read(min(first.bytes.count, second.bytes.count))
      return first.bytes == second.bytes ? 0 : first.bytes.lexicographicallyPrecedes(second.bytes) ? -1 : 1
    case (.list(let first), .list(let second)), (.tuple(let first), .tuple(let second)):
      for (one, other) in zip(first.items, second.items) where !(try equal(one, other)) {
        return try compare(one, other, symbol)
      }
      return first.items.count - second.items.count
    case (.undefined(let missing), _), (_, .undefined(let missing)): throw fail(missing.message)
    default:
      throw fail("'\(symbol)' not supported between instances of '\(left.typeName)' and '\(right.typeName)'")
    }
  }

  func contains(_ container: Value, _ element: Value) throws(TemplateError) -> Bool {
    switch container {
    case .string(let text):
      guard case .string(let part) = element else {
        throw fail("'in <string>' requires string as left operand, not \(element.typeName)")
      }
      try read(text.bytes.count)
      return text.find(part, from: 0) != nil
    case .mapping(let mapping):
      if case .string(let name) = element { return mapping[name] != nil }
      if case .undefined = element { return false }
      guard let key = Key(element) else { throw fail("unhashable type: '\(element.typeName)'") }
      return mapping[key] != nil
    case .view(let view):
      for item in view.items where try equal(item, element) { return true }
      return false
    case .list(let list), .tuple(let list):
      for item in list.items where try equal(item, element) { return true }
      return false
    case .range(let range):
      guard let number = Number(element), let value = Int(exactly: number.double), range.count > 0 else { return false }
      let (distance, overflow) = value.subtractingReportingOverflow(range.start)
      return !overflow && distance % range.step == 0 && (0..<range.count).contains(distance / range.step)
    case .generator(let generator):
      while let item = generator.next() { if try equal(item, element) { return true } }
      return false
    case .undefined: return false
    default: throw fail("argument of type '\(container.typeName)' is not iterable")
    }
  }
}
