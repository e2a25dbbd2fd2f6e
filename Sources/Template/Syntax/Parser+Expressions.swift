extension Parser {
  mutating func expression(withConditional: Bool = true) throws(TemplateError) -> Expression {
    try nested { parser throws(TemplateError) in
      withConditional ? try parser.conditionalExpression() : try parser.disjunction()
    }
  }

  var isTupleEnd: Bool {
    switch current.kind {
    case .variableEnd, .blockEnd, .symbol(.rightParenthesis): true
    default: false
    }
  }

  /// One expression, or a tuple of those with commas between them.
  mutating func tuple(
    withConditional: Bool = true, inParentheses: Bool = false
  ) throws(TemplateError) -> Expression {
    let line = current.line
    var items: [Expression] = []
    var isTuple = false
    while true {
      if !items.isEmpty { try expect(.comma) }
      if isTupleEnd { break }
      items.append(try expression(withConditional: withConditional))
      guard isSymbol(.comma) else { break }
      isTuple = true
    }
    if !isTuple, let only = items.first { return only }
    guard isTuple || inParentheses else { throw fail("expected an expression, got '\(current.described)'") }
    return try node(.tuple(items), line: line, depth: items.map(\.depth).max() ?? 0)
  }

  // MARK: Operators, from the lowest precedence

  private mutating func conditionalExpression() throws(TemplateError) -> Expression {
    let line = current.line
    let before = unknown.count
    var result = try disjunction()
    while skipName("if") {
      let then = result
      result = try conditionally { parser throws(TemplateError) in
        let test = try parser.disjunction()
        let otherwise = parser.skipName("else") ? try parser.expression() : nil
        return try parser.node(
          .conditional(test: test, then: then, otherwise: otherwise), line: line, over: test, then, otherwise)
      }
      unknown.removeLast(unknown.count - before)
    }
    return result
  }

  private mutating func disjunction() throws(TemplateError) -> Expression {
    var terms = [try conjunction()]
    while skipName("or") { terms.append(try conjunction()) }
    return terms.count == 1
      ? terms[0] : try node(.or(terms), line: terms[0].line, depth: terms.map(\.depth).max() ?? 0)
  }

  private mutating func conjunction() throws(TemplateError) -> Expression {
    var terms = [try negation()]
    while skipName("and") { terms.append(try negation()) }
    return terms.count == 1
      ? terms[0] : try node(.and(terms), line: terms[0].line, depth: terms.map(\.depth).max() ?? 0)
  }

  private mutating func negation() throws(TemplateError) -> Expression {
    let line = current.line
    guard skipName("not") else { return try comparison() }
    let operand = try nested { parser throws(TemplateError) in try parser.negation() }
    return try node(.not(operand), line: line, over: operand)
  }

  private mutating func comparison() throws(TemplateError) -> Expression {
    let first = try sum()
    var rest: [(operation: Comparison, operand: Expression)] = []
    while let operation = comparisonOperator() { rest.append((operation, try sum())) }
    if rest.isEmpty { return first }
    let depth = rest.map(\.operand.depth).max() ?? 0
    return try node(.compare(first, rest), line: first.line, depth: max(first.depth, depth))
  }

  private mutating func comparisonOperator() -> Comparison? {
    let operation: Comparison
    switch current.kind {
    case .symbol(.equal): operation = .equal
    case .symbol(.notEqual): operation = .notEqual
    case .symbol(.less): operation = .less
    case .symbol(.lessOrEqual): operation = .lessOrEqual
    case .symbol(.greater): operation = .greater
    case .symbol(.greaterOrEqual): operation = .greaterOrEqual
    case .name("in"): operation = .in
    case .name("not") where isName("in", at: position + 1):
      advance()
      operation = .notIn
    default: return nil
    }
    advance()
    return operation
  }

  private mutating func binary(
    _ operations: [Token.Symbol: BinaryOperation], _ operand: (inout Parser) throws(TemplateError) -> Expression
  ) throws(TemplateError) -> Expression {
    let first = try operand(&self)
    var rest: [(operation: BinaryOperation, operand: Expression)] = []
    while case .symbol(let symbol) = current.kind, let operation = operations[symbol] {
      advance()
      rest.append((operation, try operand(&self)))
    }
    if rest.isEmpty { return first }
    let depth = rest.map(\.operand.depth).max() ?? 0
    return try node(.binary(first, rest), line: first.line, depth: max(first.depth, depth))
  }

  private mutating func sum() throws(TemplateError) -> Expression {
    try binary([.add: .add, .subtract: .subtract]) { parser throws(TemplateError) in try parser.concatenation() }
  }

  private mutating func concatenation() throws(TemplateError) -> Expression {
    var parts = [try product()]
    while skip(.tilde) { parts.append(try product()) }
    return parts.count == 1
      ? parts[0] : try node(.concat(parts), line: parts[0].line, depth: parts.map(\.depth).max() ?? 0)
  }

  private mutating func product() throws(TemplateError) -> Expression {
    try binary([.multiply: .multiply, .divide: .divide, .floorDivide: .floorDivide, .modulo: .modulo]) {
      parser throws(TemplateError) in try parser.power()
    }
  }

  private mutating func power() throws(TemplateError) -> Expression {
    try binary([.power: .power]) { parser throws(TemplateError) in try parser.unary() }
  }

  private mutating func unary(withFilter: Bool = true) throws(TemplateError) -> Expression {
    let line = current.line
    var result: Expression
    if isSymbol(.subtract) || isSymbol(.add) {
      let negates = isSymbol(.subtract)
      advance()
      let operand = try nested { parser throws(TemplateError) in try parser.unary(withFilter: false) }
      result = try node(negates ? .negative(operand) : .positive(operand), line: line, over: operand)
    } else {
      result = try primary()
    }
    result = try postfix(result)
    return withFilter ? try filters(result) : result
  }

  // MARK: Primaries

  private mutating func primary() throws(TemplateError) -> Expression {
    let token = current
    func literal(_ value: Literal) -> Expression { Expression(.literal(value), line: token.line, depth: 1) }
    switch token.kind {
    case .name(let name):
      advance()
      switch name {
      case "true", "True": return literal(.bool(true))
      case "false", "False": return literal(.bool(false))
      case "none", "None": return literal(.none)
      default:
        let nameID = id(of: name)
        if nameID <= Program.positional { specialNames.insert(nameID) }
        return Expression(.name(nameID), line: token.line, depth: 1)
      }
    case .string(var bytes):
      advance()
      while case .string(let more) = current.kind {
        bytes += more
        advance()
      }
      return literal(.string(Text(bytes: bytes)))
    case .integer(let value):
      advance()
      return literal(.int(value))
    case .float(let value):
      advance()
      return literal(.double(value))
    case .symbol(.leftParenthesis):
      advance()
      let inner = try tuple(inParentheses: true)
      try expect(.rightParenthesis)
      return inner
    case .symbol(.leftBracket): return try list()
    case .symbol(.leftBrace): return try dictionary()
    default: throw fail("unexpected '\(token.described)'")
    }
  }

  private mutating func list() throws(TemplateError) -> Expression {
    let line = current.line
    advance()
    var items: [Expression] = []
    while !isSymbol(.rightBracket) {
      if !items.isEmpty { try expect(.comma) }
      if isSymbol(.rightBracket) { break }
      items.append(try expression())
    }
    advance()
    return try node(.list(items), line: line, depth: items.map(\.depth).max() ?? 0)
  }

  private mutating func dictionary() throws(TemplateError) -> Expression {
    let line = current.line
    advance()
    var pairs: [(key: Expression, value: Expression)] = []
    while !isSymbol(.rightBrace) {
      if !pairs.isEmpty { try expect(.comma) }
      if isSymbol(.rightBrace) { break }
      let key = try expression()
      try expect(.colon)
      pairs.append((key, try expression()))
    }
    advance()
    let depth = pairs.map { max($0.key.depth, $0.value.depth) }.max() ?? 0
    return try node(.dictionary(pairs), line: line, depth: depth)
  }

  // MARK: What follows a primary

  private mutating func postfix(_ start: Expression) throws(TemplateError) -> Expression {
    var result = start
    while true {
      switch current.kind {
      case .symbol(.dot), .symbol(.leftBracket): result = try subscripted(result)
      case .symbol(.leftParenthesis): result = try call(result)
      default: return result
      }
    }
  }

  private mutating func filters(_ start: Expression) throws(TemplateError) -> Expression {
    var result = start
    while true {
      switch current.kind {
      case .symbol(.pipe): result = try filter(result)
      case .name("is"): result = try test(result)
      case .symbol(.leftParenthesis): result = try call(result)
      default: return result
      }
    }
  }

  private mutating func call(_ function: Expression) throws(TemplateError) -> Expression {
    let line = current.line
    let arguments = try arguments()
    return try node(.call(function, arguments), line: line, depth: max(function.depth, arguments.depth))
  }

  private mutating func subscripted(_ base: Expression) throws(TemplateError) -> Expression {
    let line = current.line
    if skip(.dot) {
      let token = current
      advance()
      switch token.kind {
      case .name(let name): return try node(.attribute(base, AttributeName(name)), line: line, over: base)
      case .integer(let index):
        let key = Expression(.literal(.int(index)), line: token.line, depth: 1)
        return try node(.item(base, key), line: line, over: base)
      default: throw fail("expected name or number", line: token.line)
      }
    }
    try expect(.leftBracket)
    var keys: [Expression] = []
    while !isSymbol(.rightBracket) {
      if !keys.isEmpty { try expect(.comma) }
      if keys.isEmpty, let slice = try slice(of: base, line: line) {
        guard skip(.rightBracket) else { throw fail("a slice beside other subscripts is not supported") }
        return slice
      }
      keys.append(try expression())
      if isSymbol(.colon) {
        let slice = try slice(of: base, from: keys.removeLast(), line: line)
        guard keys.isEmpty, skip(.rightBracket) else {
          throw fail("a slice beside other subscripts is not supported")
        }
        return slice
      }
    }
    advance()
    let key =
      keys.count == 1
      ? keys[0] : try node(.tuple(keys), line: line, depth: keys.map(\.depth).max() ?? 0)
    return try node(.item(base, key), line: line, over: base, key)
  }

  private mutating func slice(of base: Expression, line: Int) throws(TemplateError) -> Expression? {
    isSymbol(.colon) ? try slice(of: base, from: nil, line: line) : nil
  }

  private mutating func slice(
    of base: Expression, from start: Expression?, line: Int
  ) throws(TemplateError) -> Expression {
    try expect(.colon)
    var parts: [Expression?] = []
    for _ in 0..<2 {
      let isMissing = isSymbol(.colon) || isSymbol(.rightBracket) || isSymbol(.comma)
      parts.append(isMissing ? nil : try expression())
      if parts.count == 1, !skip(.colon) {
        parts.append(nil)
        break
      }
    }
    return try node(
      .slice(base, start: start, stop: parts[0], step: parts[1]), line: line, over: base, start, parts[0], parts[1])
  }

  private mutating func arguments() throws(TemplateError) -> Arguments {
    let line = current.line
    var result = Arguments()
    var isFirst = true
    func ensure(_ isValid: Bool) throws(TemplateError) {
      guard isValid else { throw fail("invalid syntax for function call expression", line: line) }
    }
    try expect(.leftParenthesis)
    while !isSymbol(.rightParenthesis) {
      if !isFirst {
        try expect(.comma)
        if isSymbol(.rightParenthesis) { break }
      }
      isFirst = false
      if skip(.multiply) {
        try ensure(result.list == nil && result.dictionary == nil)
        result.list = try expression()
      } else if skip(.power) {
        try ensure(result.dictionary == nil)
        result.dictionary = try expression()
      } else if case .name(let name) = current.kind, position + 1 < tokens.count,
        tokens[position + 1].kind == .symbol(.assign)
      {
        try ensure(result.dictionary == nil && !result.keywords.contains { $0.name == name })
        advance()
        advance()
        result.keywords.append((name, try expression()))
      } else {
        try ensure(result.list == nil && result.dictionary == nil && result.keywords.isEmpty)
        result.positional.append(try expression())
      }
    }
    advance()
    return result
  }

  private mutating func dottedName() throws(TemplateError) -> String {
    var name = try expectName()
    while skip(.dot) { name += "." + (try expectName()) }
    return name
  }

  private mutating func filter(_ base: Expression) throws(TemplateError) -> Expression {
    try expect(.pipe)
    return try namedFilter(base)
  }

  private mutating func namedFilter(_ base: Expression) throws(TemplateError) -> Expression {
    let line = current.line
    let name = try dottedName()
    let arguments = isSymbol(.leftParenthesis) ? try arguments() : Arguments()
    let filter = Filter(rawValue: name)
    if filter == nil { unknown.append(fail(Filter.reasonForMissing(name), line: line)) }
    return try node(
      .filter(base, filter, name: name, arguments), line: line, depth: max(base.depth, arguments.depth))
  }

  /// The filters of a `filter` or `set` block, which are applied to what the block rendered.
  mutating func filterOfCaptured(line: Int, startsInline: Bool) throws(TemplateError) -> Expression {
    var result = Expression(.captured, line: line, depth: 1)
    if startsInline { result = try namedFilter(result) }
    while isSymbol(.pipe) { result = try filter(result) }
    return result
  }

  private mutating func test(_ base: Expression) throws(TemplateError) -> Expression {
    let line = current.line
    advance()
    let isNegated = skipName("not")
    let name = try dottedName()
    var arguments = Arguments()
    switch current.kind {
    case .symbol(.leftParenthesis): arguments = try self.arguments()
    case .name("else"), .name("or"), .name("and"): break
    case .name("is"): throw fail("you cannot chain multiple tests with is")
    case .name, .string, .integer, .float, .symbol(.leftBracket), .symbol(.leftBrace):
      arguments.positional = [
        try nested { parser throws(TemplateError) in try parser.postfix(try parser.primary()) }
      ]
    default: break
    }
    let test = Test(rawValue: name)
    if test == nil { unknown.append(fail("no test named '\(name)'", line: line)) }
    let result = try node(
      .test(base, test, name: name, arguments), line: line, depth: max(base.depth, arguments.depth))
    return isNegated ? try node(.not(result), line: line, over: result) : result
  }
}
