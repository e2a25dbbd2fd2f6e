/// The tests, by the name after `is`.
enum Test: String, Sendable {
  case odd, even, divisibleby, defined, undefined, filter, test, none, boolean, `false`, `true`, integer, float, lower
  case upper, string, mapping, number, sequence, iterable, callable, sameas, `in`
  case eq, equalto, ne, gt, greaterthan, ge, lt, lessthan, le
  case equalSign = "=="
  case unequalSign = "!="
  case greaterSign = ">"
  case greaterOrEqualSign = ">="
  case lessSign = "<"
  case lessOrEqualSign = "<="
}

extension Interpreter {
  func apply(_ test: Test, to value: Value, _ arguments: CallArguments) throws(TemplateError) -> Bool {
    switch test {
    case .divisibleby, .sameas, .in, .eq, .equalto, .ne, .gt, .greaterthan, .ge, .lt, .lessthan, .le, .equalSign,
      .unequalSign, .greaterSign, .greaterOrEqualSign, .lessSign, .lessOrEqualSign:
      let name = test == .divisibleby ? "num" : test == .in ? "seq" : "other"
      let other = try bind(arguments, [name], required: 1, in: "is \(test.rawValue)")[0] ?? .none
      return try apply(test, value, other)
    default:
      _ = try bind(arguments, [], required: 0, in: "is \(test.rawValue)")
    }
    switch test {
    case .odd, .even:
      let remainder = try self.apply(.modulo, value, .int(2))
      return try equal(remainder, .int(test == .odd ? 1 : 0))
    case .defined: return !value.isUndefined
    case .undefined: return value.isUndefined
    case .filter: return Filter(rawValue: try text(of: value).string) != nil
    case .test: return Test(rawValue: try text(of: value).string) != nil
    case .none: if case .none = value { return true }
    case .boolean: if case .bool = value { return true }
    case .false: if case .bool(false, _) = value { return true }
    case .true: if case .bool(true, _) = value { return true }
    case .integer: if case .int = value { return true }
    case .float: if case .double = value { return true }
    case .number: return Number(value) != nil
    case .string: if case .string = value { return true }
    case .mapping: if case .mapping = value { return true }
    case .lower, .upper:
      let text = try text(of: value)
      try charge(text.bytes.count)
      return text.satisfies(test == .lower ? .islower : .isupper)
    case .sequence:
      switch value {
      case .string, .list, .tuple, .mapping, .range, .undefined: return true
      default: break
      }
    case .iterable:
      switch value {
      case .string, .list, .tuple, .mapping, .range, .undefined, .view, .generator, .loop: return true
      default: break
      }
    case .callable:
      switch value {
      case .macro, .method, .function, .undefined, .loop: return true
      default: break
      }
    default: break
    }
    return false
  }

  private func apply(_ test: Test, _ value: Value, _ other: Value) throws(TemplateError) -> Bool {
    switch test {
    case .divisibleby: try equal(try self.apply(.modulo, value, other), .int(0))
    case .in: try contains(other, value)
    case .sameas: try same(value, other)
    case .ne, .unequalSign: try holds(.notEqual, value, other)
    case .gt, .greaterthan, .greaterSign: try holds(.greater, value, other)
    case .ge, .greaterOrEqualSign: try holds(.greaterOrEqual, value, other)
    case .lt, .lessthan, .lessSign: try holds(.less, value, other)
    case .le, .lessOrEqualSign: try holds(.lessOrEqual, value, other)
    default: try equal(value, other)
    }
  }

  /// Python's `is`. Values that have no identity here are the same if they have the same type and are equal.
  private func same(_ value: Value, _ other: Value) throws(TemplateError) -> Bool {
    switch (value, other) {
    case (.list(let first), .list(let second)), (.tuple(let first), .tuple(let second)): first === second
    case (.mapping(let first), .mapping(let second)): first === second
    default: value.typeName == other.typeName ? try equal(value, other) : false
    }
  }
}
