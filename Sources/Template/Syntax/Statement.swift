/// A node of a template's body.
enum Statement: Sendable {
  case text(Text)
  case print(Expression)
  case conditional([(test: Expression, body: [Statement])], otherwise: [Statement])
  case loop(ForLoop)
  case assign(Target, Expression)
  /// `filter` is applied to what the body rendered.
  case assignBlock(Target, filter: Expression?, [Statement], line: Int)
  case macro(MacroDefinition)
  case call(MacroDefinition, Expression)
  case filter(Expression, [Statement])
  case with([(target: Target, value: Expression)], [Statement])
  case block([Statement])
  case generation([Statement])
  case exitLoop
  case continueLoop
}

/// What `set`, `for` and `with` assign to.
indirect enum Target: Sendable {
  case name(Int)
  case attribute(namespace: Int, AttributeName, line: Int)
  case tuple([Target], line: Int)
}

final class ForLoop: Sendable {
  let target: Target
  let iterable: Expression
  let filter: Expression?
  let isRecursive: Bool
  let body: [Statement]
  let otherwise: [Statement]
  let line: Int

  init(
    target: Target, iterable: Expression, filter: Expression?, isRecursive: Bool, body: [Statement],
    otherwise: [Statement], line: Int
  ) {
    self.target = target
    self.iterable = iterable
    self.filter = filter
    self.isRecursive = isRecursive
    self.body = body
    self.otherwise = otherwise
    self.line = line
  }
}

/// A macro, or the body of a call block (which has no name).
final class MacroDefinition: Sendable {
  let name: String
  let nameID: Int
  let parameters: [(name: String, id: Int, fallback: Expression?)]
  let body: [Statement]
  /// Whether the body reads these names without having a parameter of that name.
  let readsCaller: Bool
  let readsKeywords: Bool
  let readsPositional: Bool
  let line: Int

  init(
    name: String, nameID: Int, parameters: [(name: String, id: Int, fallback: Expression?)], body: [Statement],
    readsCaller: Bool, readsKeywords: Bool, readsPositional: Bool, line: Int
  ) {
    self.name = name
    self.nameID = nameID
    self.parameters = parameters
    self.body = body
    self.readsCaller = readsCaller
    self.readsKeywords = readsKeywords
    self.readsPositional = readsPositional
    self.line = line
  }
}

/// A parsed template: its body, and the name of each id in it.
struct Program: Sendable {
  let body: [Statement]
  let names: [String]

  /// The names with the first ids, which the interpreter itself uses.
  static let reservedNames = ["loop", "caller", "kwargs", "varargs"]
  static let loop = 0
  static let caller = 1
  static let keywords = 2
  static let positional = 3
}
