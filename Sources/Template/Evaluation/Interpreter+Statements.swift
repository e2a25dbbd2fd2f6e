extension Interpreter {
  /// How execution continues after a statement.
  enum Flow { case proceed, exitLoop, continueLoop }

  func execute(_ statements: [Statement], _ scope: Scope) throws(TemplateError) -> Flow {
    try enter()
    for statement in statements {
      try charge()
      let flow = try execute(statement, scope)
      if flow != .proceed {
        leave()
        return flow
      }
    }
    leave()
    return .proceed
  }

  private func execute(_ statement: Statement, _ scope: Scope) throws(TemplateError) -> Flow {
    switch statement {
    case .text(let text): try emit(text)
    case .print(let expression): try emit(try text(of: evaluate(expression, scope)))
    case .conditional(let branches, let otherwise):
      for branch in branches where try evaluate(branch.test, scope).isTrue {
        return try execute(branch.body, scope)
      }
      return try execute(otherwise, scope)
    case .loop(let loop): try execute(loop, scope)
    case .assign(let target, let expression):
      try checkNamespaces(target, scope)
      try assign(try evaluate(expression, scope), to: target, scope)
    case .assignBlock(let target, let filter, let body, let line):
      let (text, flow) = try capture(body, Scope(parent: scope))
      if flow != .proceed { return flow }
      var value = Value.string(text)
      if let filter {
        captured = text
        value = try evaluate(filter, scope)
      }
      self.line = line
      try assign(value, to: target, scope)
    case .macro(let definition):
      scope.variables[definition.nameID] = .macro(try macro(definition, scope))
    case .call(let definition, let call): try executeCall(definition, call, scope)
    case .filter(let filter, let body):
      let (text, flow) = try capture(body, Scope(parent: scope))
      if flow != .proceed { return flow }
      captured = text
      try emit(try self.text(of: try evaluate(filter, scope)))
    case .with(let bindings, let body):
      let inner = Scope(parent: scope)
      for binding in bindings { try assign(try evaluate(binding.value, scope), to: binding.target, inner) }
      return try execute(body, inner)
    case .block(let body):
      var root = scope
      while let parent = root.parent, parent.parent != nil { root = parent }
      _ = try execute(body, Scope(parent: root))
    case .generation(let body):
      let start = output.bytes.count
      _ = try execute(body, Scope(parent: scope))
      guard generationCount < Int(Source.max) - 2 else { throw limit("too many generation blocks") }
      output.mark(from: start, source: -2 - Source(generationCount))
      generationCount += 1
    case .exitLoop: return .exitLoop
    case .continueLoop: return .continueLoop
    }
    return .proceed
  }

  func emit(_ text: Text) throws(TemplateError) {
    try read(text.bytes.count)
    guard text.bytes.count <= limits.outputBytes - output.bytes.count else {
      throw limit("the rendering has more than \(limits.outputBytes) bytes")
    }
    if text.markCount > 0 { try allocate(24 * text.markCount) }
    output.append(text)
  }

  /// Executes statements whose output is not written but returned.
  func capture(_ body: [Statement], _ scope: Scope) throws(TemplateError) -> (Text, Flow) {
    let outer = output
    output = Text()
    let flow = try execute(body, scope)
    let text = output
    output = outer
    try allocate(text)
    return (text, flow)
  }

  // MARK: Assignment

  private func checkNamespaces(_ target: Target, _ scope: Scope) throws(TemplateError) {
    switch target {
    case .name: break
    case .attribute(let id, _, let line):
      guard case .namespace? = scope.value(id) else {
        self.line = line
        throw fail("cannot assign attribute on non-namespace object")
      }
    case .tuple(let targets, _): for target in targets { try checkNamespaces(target, scope) }
    }
  }

  func assign(_ value: Value, to target: Target, _ scope: Scope) throws(TemplateError) {
    switch target {
    case .name(let id): scope.variables[id] = value
    case .attribute(let id, let name, let line):
      self.line = line
      guard case .namespace(let namespace)? = scope.value(id) else {
        throw fail("cannot assign attribute on non-namespace object")
      }
      try set(value, name.text, in: namespace)
    case .tuple(let targets, let line):
      self.line = line
      let items = try iterate(value)
      guard items.count == targets.count else {
        throw fail(
          items.count < targets.count
            ? "not enough values to unpack (expected \(targets.count), got \(items.count))"
            : "too many values to unpack (expected \(targets.count))")
      }
      for (item, target) in zip(items, targets) { try assign(item, to: target, scope) }
    }
  }

  func set(_ value: Value, _ name: Text, in namespace: Namespace) throws(TemplateError) {
    if name.bytes.first == UInt8(ascii: "_") {
      throw fail("chat templates cannot store underscore-prefixed attributes on a namespace, but got '\(name.string)'")
    }
    namespace[name] = value
  }

  // MARK: Loops

  private func execute(_ loop: ForLoop, _ scope: Scope) throws(TemplateError) {
    line = loop.line
    let iterable = try evaluate(loop.iterable, scope)
    line = loop.line
    if loop.isRecursive {
      try keep(scope)
      try emit(try recurse(loop, over: iterable, scope, depth0: 0))
    } else {
      try iterate(loop, over: iterable, scope, depth0: 0)
    }
  }

  /// One level of a recursive loop, with an output of its own.
  func recurse(_ loop: ForLoop, over value: Value, _ scope: Scope, depth0: Int) throws(TemplateError) -> Text {
    try enter()
    let outer = output
    output = Text()
    try iterate(loop, over: value, scope, depth0: depth0)
    let text = output
    output = outer
    leave()
    return text
  }

  private func iterate(
    _ definition: ForLoop, over value: Value, _ scope: Scope, depth0: Int
  ) throws(TemplateError) {
    var items = try iterate(value)
    if let filter = definition.filter {
      var kept: [Value] = []
      for item in items {
        let inner = Scope(parent: scope)
        try assign(item, to: definition.target, inner)
        if try evaluate(filter, inner).isTrue { kept.append(item) }
      }
      items = kept
    }
    guard !items.isEmpty else {
      _ = try execute(definition.otherwise, Scope(parent: scope))
      return
    }
    try charge(items.count / 8)
    let loop = Loop(items: items, depth0: depth0, recursion: definition.isRecursive ? (definition, scope) : nil)
    var inner = Scope(parent: scope)
    for (index, item) in items.enumerated() {
      loop.index = index
      // If nothing has captured the frame of the last iteration, it is used again.
      if isKnownUniquelyReferenced(&inner) {
        inner.variables.removeAll(keepingCapacity: true)
      } else {
        inner = Scope(parent: scope)
      }
      inner.variables[Program.loop] = .loop(loop)
      try assign(item, to: definition.target, inner)
      if try execute(definition.body, inner) == .exitLoop { break }
    }
  }
}
