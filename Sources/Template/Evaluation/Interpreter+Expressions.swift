extension Interpreter {
  func evaluate(_ expression: Expression, _ scope: Scope) throws(TemplateError) -> Value {
    switch expression.kind {
    case .literal(let literal):
      try charge()
      return value(of: literal)
    case .name(let id):
      try charge()
      return scope.value(id) ?? .undefined(.name(program.names[id]))
    default:
      try enter()
      let value = try evaluateNested(expression, scope)
      leave()
      return value
    }
  }

  private func value(of literal: Literal) -> Value {
    switch literal {
    case .none: .none
    case .bool(let value): .bool(value)
    case .int(let value): .int(value)
    case .double(let value): .double(value)
    case .string(let text): .string(text)
    }
  }

  private func evaluateNested(_ expression: Expression, _ scope: Scope) throws(TemplateError) -> Value {
    switch expression.kind {
    case .literal, .name: return .none
    case .list(let items): return try list(try evaluate(all: items, scope))
    case .tuple(let items): return try checked(.tuple(List(try evaluate(all: items, scope))))
    case .dictionary(let pairs): return try dictionary(pairs, scope, line: expression.line)
    case .attribute(let base, let name):
      let value = try evaluate(base, scope)
      line = expression.line
      return try attribute(of: value, name)
    case .item(let base, let key):
      let value = try evaluate(base, scope)
      let key = try evaluate(key, scope)
      line = expression.line
      return try item(of: value, key)
    case .slice(let base, let start, let stop, let step):
      return try slice(base, start, stop, step, scope, line: expression.line)
    case .call(let function, let arguments): return try call(function, arguments, scope, line: expression.line)
    case .filter(let base, let filter, let name, let arguments):
      let value = try evaluate(base, scope)
      let arguments = try evaluate(arguments, scope)
      line = expression.line
      guard let filter else { throw fail(Filter.reasonForMissing(name)) }
      return try apply(filter, to: value, arguments)
    case .test(let base, let test, let name, let arguments):
      let value = try evaluate(base, scope)
      let arguments = try evaluate(arguments, scope)
      line = expression.line
      guard let test else { throw fail("no test named '\(name)'") }
      return .bool(try apply(test, to: value, arguments))
    case .not(let operand): return .bool(!(try evaluate(operand, scope)).isTrue)
    case .negative(let operand):
      let value = try evaluate(operand, scope)
      line = expression.line
      return try signed(value, negates: true)
    case .positive(let operand):
      let value = try evaluate(operand, scope)
      line = expression.line
      return try signed(value, negates: false)
    case .binary(let first, let rest): return try binary(first, rest, scope, line: expression.line)
    case .compare(let first, let rest): return try compare(first, rest, scope, line: expression.line)
    case .concat(let parts): return try concatenate(parts, scope, line: expression.line)
    case .and(let terms):
      var value = Value.none
      for term in terms {
        value = try evaluate(term, scope)
        if !value.isTrue { break }
      }
      return value
    case .or(let terms):
      var value = Value.none
      for term in terms {
        value = try evaluate(term, scope)
        if value.isTrue { break }
      }
      return value
    case .conditional(let test, let then, let otherwise):
      if try evaluate(test, scope).isTrue { return try evaluate(then, scope) }
      guard let otherwise else {
        return .undefined(
          .message("the inline if-expression on line \(expression.line) evaluated to false and has no else"))
      }
      return try evaluate(otherwise, scope)
    case .captured: return .string(captured)
    }
  }

  private func evaluate(all expressions: [Expression], _ scope: Scope) throws(TemplateError) -> [Value] {
    try allocate(elements: expressions.count)
    var values: [Value] = []
    values.reserveCapacity(expressions.count)
    for expression in expressions { values.append(try evaluate(expression, scope)) }
    return values
  }

  private func dictionary(
    _ pairs: [(key: Expression, value: Expression)], _ scope: Scope, line: Int
  ) throws(TemplateError) -> Value {
    try allocate(elements: 3 * pairs.count)
    var values: [(Value, Value)] = []
    for pair in pairs { values.append((try evaluate(pair.key, scope), try evaluate(pair.value, scope))) }
    self.line = line
    return try checked(.mapping(try mapping(values)))
  }

  private func binary(
    _ first: Expression, _ rest: [(operation: BinaryOperation, operand: Expression)], _ scope: Scope, line: Int
  ) throws(TemplateError) -> Value {
    var value = try evaluate(first, scope)
    for (operation, operand) in rest {
      let right = try evaluate(operand, scope)
      self.line = line
      value = try apply(operation, value, right)
    }
    return value
  }

  private func compare(
    _ first: Expression, _ rest: [(operation: Comparison, operand: Expression)], _ scope: Scope, line: Int
  ) throws(TemplateError) -> Value {
    var left = try evaluate(first, scope)
    for (operation, operand) in rest {
      let right = try evaluate(operand, scope)
      self.line = line
      if !(try holds(operation, left, right)) { return .bool(false) }
      left = right
    }
    return .bool(true)
  }

  private func concatenate(_ parts: [Expression], _ scope: Scope, line: Int) throws(TemplateError) -> Value {
    var texts: [Text] = []
    var count = 0
    for part in parts {
      let value = try evaluate(part, scope)
      self.line = line
      texts.append(try text(of: value))
      try allocate(texts[texts.count - 1])
      count += texts[texts.count - 1].bytes.count
    }
    var result = Text()
    result.bytes.reserveCapacity(count)
    for text in texts { result.append(text) }
    return .string(result)
  }

  private func slice(
    _ base: Expression, _ start: Expression?, _ stop: Expression?, _ step: Expression?, _ scope: Scope, line: Int
  ) throws(TemplateError) -> Value {
    let value = try evaluate(base, scope)
    let bounds = [try bound(start, scope), try bound(stop, scope), try bound(step, scope)]
    self.line = line
    return try slice(of: value, start: bounds[0], stop: bounds[1], step: bounds[2])
  }

  private func bound(_ expression: Expression?, _ scope: Scope) throws(TemplateError) -> Int? {
    guard let expression else { return nil }
    switch try evaluate(expression, scope) {
    case .none: return nil
    case .int(let value, _): return value
    case .bool(let value, _): return value ? 1 : 0
    case .undefined(let missing): throw fail(missing.message)
    default: throw fail("slice indices must be integers or None")
    }
  }
}
