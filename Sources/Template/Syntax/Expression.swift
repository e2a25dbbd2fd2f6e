/// A node of an expression, with the line that it begins on. A chain of one operator is one node, so that a long chain does
/// not nest deeply.
final class Expression: Sendable {
  indirect enum Kind: Sendable {
    case literal(Literal)
    case name(Int)
    case list([Expression])
    case tuple([Expression])
    case dictionary([(key: Expression, value: Expression)])
    case attribute(Expression, AttributeName)
    case item(Expression, Expression)
    case slice(Expression, start: Expression?, stop: Expression?, step: Expression?)
    case call(Expression, Arguments)
    case filter(Expression, Filter?, name: String, Arguments)
    case test(Expression, Test?, name: String, Arguments)
    case not(Expression)
    case negative(Expression)
    case positive(Expression)
    case binary(Expression, [(operation: BinaryOperation, operand: Expression)])
    case compare(Expression, [(operation: Comparison, operand: Expression)])
    case concat([Expression])
    case and([Expression])
    case or([Expression])
    case conditional(test: Expression, then: Expression, otherwise: Expression?)
    /// What the block that is being filtered has rendered.
    case captured
  }

  let kind: Kind
  let line: Int
  /// How deeply nodes nest, this one included.
  let depth: Int

  init(_ kind: Kind, line: Int, depth: Int) {
    self.kind = kind
    self.line = line
    self.depth = depth
  }
}

enum Literal: Sendable {
  case none
  case bool(Bool)
  case int(Int)
  case double(Double)
  case string(Text)
}

/// The name of an attribute in the forms that evaluation needs: as a key, as a string, and as a method if it is one's.
struct AttributeName: Sendable {
  let text: Text
  let string: String
  let method: Method?

  init(_ name: String) {
    text = Text(name)
    string = name
    method = Method(rawValue: name)
  }
}

/// The arguments of a call; `list` follows `*` and `dictionary` follows `**`.
struct Arguments: Sendable {
  var positional: [Expression] = []
  var keywords: [(name: String, value: Expression)] = []
  var list: Expression?
  var dictionary: Expression?

  var depth: Int {
    let parts = positional + keywords.map(\.value) + [list, dictionary].compactMap(\.self)
    return parts.map(\.depth).max() ?? 0
  }
}

enum BinaryOperation: Sendable {
  case add, subtract, multiply, divide, floorDivide, modulo, power

  var symbol: String {
    switch self {
    case .add: "+"
    case .subtract: "-"
    case .multiply: "*"
    case .divide: "/"
    case .floorDivide: "//"
    case .modulo: "%"
    case .power: "**"
    }
  }
}

enum Comparison: Sendable {
  case equal, notEqual, less, lessOrEqual, greater, greaterOrEqual, `in`, notIn
}
