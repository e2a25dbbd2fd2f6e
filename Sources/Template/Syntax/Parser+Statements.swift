extension Parser {
  /// Statements up to a block tag named in `ends`, which is left as the current token, or to the template's end.
  mutating func statements(until ends: [String]) throws(TemplateError) -> [Statement] {
    var body: [Statement] = []
    while true {
      switch current.kind {
      case .end:
        if ends.isEmpty { return body }
        throw fail("unexpected end of template, expected '\(ends.joined(separator: "' or '"))'")
      case .data(let bytes):
        body.append(.text(Text(bytes: bytes)))
        advance()
      case .variableBegin:
        advance()
        body.append(.print(try tuple()))
        guard current.kind == .variableEnd else {
          throw fail("expected token 'end of print statement', got '\(current.described)'")
        }
        advance()
      case .blockBegin:
        advance()
        guard case .name(let tag) = current.kind else { throw fail("tag name expected") }
        if ends.contains(tag) { return body }
        body.append(contentsOf: try nested { parser throws(TemplateError) in try parser.statement(tag) })
        try expectBlockEnd()
      default:
        throw fail("unexpected '\(current.described)'")
      }
    }
  }

  /// The body of a block, up to a block tag named in `ends`, which is left as the current token.
  private mutating func block(until ends: String...) throws(TemplateError) -> [Statement] {
    _ = skip(.colon)
    try expectBlockEnd()
    return try statements(until: ends)
  }

  private mutating func ownBlock(until end: String) throws(TemplateError) -> [Statement] {
    let body = try bodyOfOwnFrame { parser throws(TemplateError) in try parser.block(until: end) }
    advance()
    return body
  }

  private mutating func statement(_ tag: String) throws(TemplateError) -> [Statement] {
    let line = current.line
    advance()
    switch tag {
    case "if": return [try conditionally { parser throws(TemplateError) in try parser.conditional() }]
    case "for": return [try loop(line: line)]
    case "set": return [try assignment(line: line)]
    case "macro": return [try macro(line: line)]
    case "call": return [try callBlock(line: line)]
    case "filter":
      let filter = try filterOfCaptured(line: line, startsInline: true)
      return [.filter(filter, try ownBlock(until: "endfilter"))]
    case "with": return [try with()]
    case "print": return try printed()
    case "block": return [try namedBlock()]
    case "generation":
      return [
        .generation(
          try insideFunction { parser throws(TemplateError) in
            try parser.ownBlock(until: "endgeneration")
          })
      ]
    case "break", "continue":
      guard loops > 0 else { throw fail("'\(tag)' outside of a loop", line: line) }
      return [tag == "break" ? .exitLoop : .continueLoop]
    case "extends", "include", "import", "from", "autoescape":
      throw fail("'\(tag)' is not supported: a chat template stands alone", line: line)
    default: throw fail("encountered unknown tag '\(tag)'", line: line)
    }
  }

  private mutating func conditional() throws(TemplateError) -> Statement {
    var branches: [(test: Expression, body: [Statement])] = []
    while true {
      let test = try tuple(withConditional: false)
      branches.append((test, try block(until: "elif", "else", "endif")))
      if skipName("elif") { continue }
      guard skipName("else") else { break }
      let otherwise = try block(until: "endif")
      advance()
      return .conditional(branches, otherwise: otherwise)
    }
    advance()
    return .conditional(branches, otherwise: [])
  }

  private mutating func loop(line: Int) throws(TemplateError) -> Statement {
    outerLoops += 1
    defer { outerLoops -= 1 }
    let target = try target()
    guard skipName("in") else { throw fail("expected token 'in', got '\(current.described)'") }
    let iterable = try tuple(withConditional: false)
    return try bodyOfOwnFrame { parser throws(TemplateError) in
      let filter = parser.skipName("if") ? try parser.expression() : nil
      let isRecursive = parser.skipName("recursive")
      parser.loops += 1
      let body = try parser.block(until: "endfor", "else")
      parser.loops -= 1
      var otherwise: [Statement] = []
      if parser.skipName("else") { otherwise = try parser.block(until: "endfor") }
      parser.advance()
      return .loop(
        ForLoop(
          target: target, iterable: iterable, filter: filter, isRecursive: isRecursive, body: body,
          otherwise: otherwise, line: line))
    }
  }

  private mutating func assignment(line: Int) throws(TemplateError) -> Statement {
    let target = try target(allowsNamespace: true)
    if skip(.assign) { return .assign(target, try tuple()) }
    let filter = isSymbol(.pipe) ? try filterOfCaptured(line: line, startsInline: false) : nil
    return .assignBlock(target, filter: filter, try ownBlock(until: "endset"), line: line)
  }

  private mutating func with() throws(TemplateError) -> Statement {
    var bindings: [(target: Target, value: Expression)] = []
    while current.kind != .blockEnd {
      if !bindings.isEmpty { try expect(.comma) }
      let target = try target()
      try expect(.assign)
      bindings.append((target, try expression()))
    }
    return .with(bindings, try ownBlock(until: "endwith"))
  }

  private mutating func printed() throws(TemplateError) -> [Statement] {
    var result: [Statement] = []
    while current.kind != .blockEnd {
      if !result.isEmpty { try expect(.comma) }
      result.append(.print(try expression()))
    }
    return result
  }

  private mutating func namedBlock() throws(TemplateError) -> Statement {
    let name = try expectName()
    let isScoped = skipName("scoped")
    _ = skipName("required")
    guard !isScoped else { throw fail("scoped blocks are not supported") }
    let body = try insideFunction { parser throws(TemplateError) in
      let body = try parser.bodyOfOwnFrame { parser throws(TemplateError) in try parser.block(until: "endblock") }
      parser.advance()
      return body
    }
    _ = skipName(name)
    return .block(body)
  }

  // MARK: Macros

  /// Parses what jinja2 compiles to a function of its own: `break` and `continue` cannot leave it.
  private mutating func insideFunction<Result>(
    _ parse: (inout Parser) throws(TemplateError) -> Result
  ) throws(TemplateError) -> Result {
    let outer = loops
    loops = 0
    let result = try parse(&self)
    loops = outer
    return result
  }

  private mutating func macro(line: Int) throws(TemplateError) -> Statement {
    let name = try expectName()
    try checkAssignable(name, line: line)
    let parameters = try signature()
    return .macro(try definition(name, parameters, end: "endmacro", line: line))
  }

  private mutating func callBlock(line: Int) throws(TemplateError) -> Statement {
    let parameters = isSymbol(.leftParenthesis) ? try signature() : []
    let call = try expression()
    guard case .call = call.kind else { throw fail("expected call", line: line) }
    return .call(try definition("", parameters, end: "endcall", line: line), call)
  }

  private mutating func definition(
    _ name: String, _ parameters: [(name: String, id: Int, fallback: Expression?)], end: String, line: Int
  ) throws(TemplateError) -> MacroDefinition {
    let outer = specialNames
    specialNames = []
    let body = try insideFunction { parser throws(TemplateError) in try parser.ownBlock(until: end) }
    let read = specialNames
    specialNames.formUnion(outer)
    let own = Set(parameters.map(\.id))
    if read.contains(Program.caller), let parameter = parameters.first(where: { $0.id == Program.caller }) {
      guard parameter.fallback != nil else {
        throw fail("the special \"caller\" argument must be omitted or be given a default", line: line)
      }
    }
    return MacroDefinition(
      name: name, nameID: id(of: name), parameters: parameters, body: body,
      readsCaller: read.contains(Program.caller),
      readsKeywords: read.contains(Program.keywords) && !own.contains(Program.keywords),
      readsPositional: read.contains(Program.positional) && !own.contains(Program.positional), line: line)
  }

  private mutating func signature() throws(TemplateError) -> [(name: String, id: Int, fallback: Expression?)] {
    var parameters: [(name: String, id: Int, fallback: Expression?)] = []
    try expect(.leftParenthesis)
    while !isSymbol(.rightParenthesis) {
      if !parameters.isEmpty { try expect(.comma) }
      let line = current.line
      let name = try expectName()
      try checkAssignable(name, line: line, isParameter: true)
      let nameID = id(of: name)
      guard !parameters.contains(where: { $0.id == nameID }) else { throw fail("duplicate argument '\(name)'") }
      if skip(.assign) {
        parameters.append((name, nameID, try expression()))
      } else {
        guard parameters.last?.fallback == nil else {
          throw fail("non-default argument follows default argument")
        }
        parameters.append((name, nameID, nil))
      }
    }
    try expect(.rightParenthesis)
    return parameters
  }

  // MARK: Targets

  /// What is assigned to: a name, a namespace's attribute if it is allowed, or several with commas between them.
  private mutating func target(allowsNamespace: Bool = false) throws(TemplateError) -> Target {
    try nested { parser throws(TemplateError) in
      let line = parser.current.line
      var parts: [Target] = []
      var isTuple = false
      while true {
        if !parts.isEmpty { try parser.expect(.comma) }
        if parser.isTupleEnd { break }
        parts.append(try parser.simpleTarget(allowsNamespace: allowsNamespace))
        guard parser.isSymbol(.comma) else { break }
        isTuple = true
      }
      if !isTuple, let first = parts.first { return first }
      guard isTuple else { throw parser.fail("expected an expression, got '\(parser.current.described)'") }
      return .tuple(parts, line: line)
    }
  }

  private mutating func simpleTarget(allowsNamespace: Bool) throws(TemplateError) -> Target {
    let line = current.line
    if skip(.leftParenthesis) {
      let inner = try target(allowsNamespace: allowsNamespace)
      try expect(.rightParenthesis)
      return inner
    }
    guard case .name(let name) = current.kind else { throw fail("can't assign to '\(current.described)'") }
    advance()
    if allowsNamespace, skip(.dot) {
      return .attribute(namespace: id(of: name), AttributeName(try expectName()), line: line)
    }
    try checkAssignable(name, line: line)
    return .name(id(of: name))
  }

  private func checkAssignable(_ name: String, line: Int, isParameter: Bool = false) throws(TemplateError) {
    if ["true", "false", "none", "True", "False", "None"].contains(name) {
      throw fail("can't assign to '\(name)'", line: line)
    }
    if name == "loop", outerLoops > 0, !isParameter {
      throw fail("can't assign to the special loop variable", line: line)
    }
  }
}
