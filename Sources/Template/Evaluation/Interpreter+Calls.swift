/// Evaluated arguments.
struct CallArguments {
  var positional: [Value] = []
  var keywords: [(name: String, value: Value)] = []

  var isEmpty: Bool { positional.isEmpty && keywords.isEmpty }

  mutating func takeKeyword(_ name: String) -> Value? {
    guard let offset = keywords.firstIndex(where: { $0.name == name }) else { return nil }
    return keywords.remove(at: offset).value
  }
}

extension Interpreter {
  func evaluate(_ arguments: Arguments, _ scope: Scope) throws(TemplateError) -> CallArguments {
    var result = CallArguments()
    for argument in arguments.positional { result.positional.append(try evaluate(argument, scope)) }
    if let list = arguments.list { result.positional += try iterate(try evaluate(list, scope)) }
    for keyword in arguments.keywords {
      result.keywords.append((keyword.name, try evaluate(keyword.value, scope)))
    }
    if let dictionary = arguments.dictionary {
      guard case .mapping(let mapping) = try evaluate(dictionary, scope) else {
        throw fail("argument after ** must be a mapping")
      }
      try allocate(elements: mapping.count)
      let known = Set(result.keywords.map(\.name))
      for (key, value) in zip(mapping.keys, mapping.values) {
        guard case .string(let name) = key else { throw fail("keywords must be strings") }
        guard !known.contains(name.string) else { throw fail("got multiple values for '\(name.string)'") }
        result.keywords.append((name.string, value))
      }
    }
    return result
  }

  /// Arguments in the order of the parameters' names; `nil` for one that was not given.
  /// - Parameter required: how many of the first parameters must be given
  func bind(
    _ arguments: CallArguments, _ names: [String], required: Int, in function: String
  ) throws(TemplateError) -> [Value?] {
    var result = [Value?](repeating: nil, count: names.count)
    guard arguments.positional.count <= names.count else {
      throw fail("\(function)() takes at most \(names.count) arguments (\(arguments.positional.count) given)")
    }
    for (offset, value) in arguments.positional.enumerated() { result[offset] = value }
    for (name, value) in arguments.keywords {
      guard let offset = names.firstIndex(of: name) else {
        throw fail("\(function)() got an unexpected keyword argument '\(name)'")
      }
      guard result[offset] == nil else { throw fail("\(function)() got multiple values for argument '\(name)'") }
      result[offset] = value
    }
    for offset in 0..<required where result[offset] == nil {
      throw fail("\(function)() missing required argument '\(names[offset])'")
    }
    return result
  }

  func call(
    _ function: Expression, _ arguments: Arguments, _ scope: Scope, line: Int, caller: Macro? = nil
  ) throws(TemplateError) -> Value {
    if case .attribute(let base, let name) = function.kind, let method = name.method {
      let receiver = try evaluate(base, scope)
      self.line = function.line
      if receiver.has(method) {
        var values = try evaluate(arguments, scope)
        if let caller { values.keywords.append(("caller", .macro(caller))) }
        self.line = line
        return try call(method, on: receiver, values)
      }
      let value = try attribute(of: receiver, name)
      return try call(value, try evaluated(arguments, caller, scope), line: line)
    }
    let value = try evaluate(function, scope)
    return try call(value, try evaluated(arguments, caller, scope), line: line)
  }

  private func evaluated(
    _ arguments: Arguments, _ caller: Macro?, _ scope: Scope
  ) throws(TemplateError) -> CallArguments {
    var values = try evaluate(arguments, scope)
    if let caller { values.keywords.append(("caller", .macro(caller))) }
    return values
  }

  func call(_ function: Value, _ arguments: CallArguments, line: Int) throws(TemplateError) -> Value {
    self.line = line
    switch function {
    case .macro(let macro): return .string(try call(macro, arguments))
    case .function(let function): return try call(function, arguments)
    case .method(let bound): return try call(bound.method, on: bound.receiver, arguments)
    case .loop(let loop):
      guard let recursion = loop.recursion else {
        throw fail("the loop must have the 'recursive' marker to be called recursively")
      }
      let iterable = try bind(arguments, ["iterable"], required: 1, in: "loop")[0] ?? .none
      return .string(
        try recurse(recursion.definition, over: iterable, recursion.scope, depth0: loop.depth0 + 1))
    case .undefined(let missing): throw fail(missing.message)
    default: throw fail("'\(function.typeName)' object is not callable")
    }
  }

  // MARK: Macros

  /// A macro with the frames around it, which are cleared when the rendering ends.
  func macro(_ definition: MacroDefinition, _ scope: Scope) throws(TemplateError) -> Macro {
    try allocate(256)
    try keep(scope)
    return Macro(definition: definition, scope: scope)
  }

  func executeCall(_ definition: MacroDefinition, _ call: Expression, _ scope: Scope) throws(TemplateError) {
    guard case .call(let function, let arguments) = call.kind else { return }
    let caller = try macro(definition, scope)
    let value = try self.call(function, arguments, scope, line: call.line, caller: caller)
    try emit(try text(of: value))
  }

  func call(_ macro: Macro, _ given: CallArguments) throws(TemplateError) -> Text {
    try enter()
    let definition = macro.definition
    let scope = Scope(parent: macro.scope)
    var arguments = given
    var hasCaller = false
    for (offset, parameter) in definition.parameters.enumerated() {
      if parameter.id == Program.caller { hasCaller = true }
      if offset < arguments.positional.count {
        scope.variables[parameter.id] = arguments.positional[offset]
      } else if let value = arguments.takeKeyword(parameter.name) {
        scope.variables[parameter.id] = value
      } else if let fallback = parameter.fallback {
        scope.variables[parameter.id] = try evaluate(fallback, scope)
      } else {
        scope.variables[parameter.id] = .undefined(.message("parameter '\(parameter.name)' was not provided"))
      }
    }
    if definition.readsCaller, !hasCaller {
      scope.variables[Program.caller] =
        arguments.takeKeyword("caller") ?? .undefined(.message("No caller defined"))
    }
    if definition.readsKeywords {
      scope.variables[Program.keywords] = .mapping(
        try mapping(arguments.keywords.map { (.string($0.name), $0.value) }))
    } else if let extra = arguments.keywords.first {
      throw fail("macro '\(definition.name)' takes no keyword argument '\(extra.name)'")
    }
    let extra = arguments.positional.dropFirst(definition.parameters.count)
    if definition.readsPositional {
      scope.variables[Program.positional] = try checked(.tuple(List(Array(extra))))
    } else if !extra.isEmpty {
      throw fail("macro '\(definition.name)' takes not more than \(definition.parameters.count) argument(s)")
    }
    let (text, _) = try capture(definition.body, scope)
    leave()
    return text
  }

  // MARK: Functions

  private func call(_ function: Function, _ arguments: CallArguments) throws(TemplateError) -> Value {
    switch function {
    case .range: return try range(arguments)
    case .dictionary: return .mapping(try dictionary(arguments, in: "dict"))
    case .namespace:
      try allocate(256)
      let namespace = Namespace()
      namespaces.append(namespace)
      let attributes = try dictionary(arguments, in: "namespace")
      for (key, value) in zip(attributes.keys, attributes.values) {
        guard case .string(let name) = key else { continue }
        try set(value, name, in: namespace)
      }
      return .namespace(namespace)
    case .raiseException:
      let message = try bind(arguments, ["message"], required: 1, in: "raise_exception")[0] ?? .none
      throw TemplateError(kind: .refused, line: line, reason: try text(of: message).string)
    case .strftimeNow:
      let format = try bind(arguments, ["format"], required: 1, in: "strftime_now")[0] ?? .none
      guard case .string(let text) = format else { throw fail("strftime_now() takes a string") }
      try allocate(16 * text.bytes.count)
      guard let result = now.formatted(text.bytes) else {
        throw fail("strftime_now(): unknown directive in '\(text.string)'")
      }
      return .string(Text(bytes: result))
    }
  }

  private func range(_ arguments: CallArguments) throws(TemplateError) -> Value {
    var bounds: [Int] = []
    for argument in arguments.positional { bounds.append(try integer(argument, in: "range")) }
    guard (1...3).contains(bounds.count), arguments.keywords.isEmpty else {
      throw fail("range expected 1 to 3 arguments, got \(bounds.count)")
    }
    let start = bounds.count == 1 ? 0 : bounds[0]
    let stop = bounds.count == 1 ? bounds[0] : bounds[1]
    let step = bounds.count == 3 ? bounds[2] : 1
    guard step != 0 else { throw fail("range() arg 3 must not be zero") }
    let (distance, overflow) =
      step > 0
      ? stop.subtractingReportingOverflow(start)
      : start.subtractingReportingOverflow(stop)
    let size = step.magnitude
    let count = distance <= 0 && !overflow ? 0 : overflow ? UInt.max : (UInt(distance) - 1) / size + 1
    let isEmpty = step > 0 ? stop <= start : start <= stop
    guard isEmpty || count <= UInt(TemplateLimits.rangeCount) else {
      throw fail("range too big: the sandbox blocks ranges larger than \(TemplateLimits.rangeCount)")
    }
    return .range(IntegerRange(start: start, step: step, count: isEmpty ? 0 : Int(count), stop: stop))
  }

  /// `dict(…)`: a copy of a mapping, or of pairs, with the keyword arguments.
  private func dictionary(_ arguments: CallArguments, in function: String) throws(TemplateError) -> Mapping {
    guard arguments.positional.count <= 1 else { throw fail("\(function) expected at most 1 argument") }
    var pairs: [(Value, Value)] = []
    switch arguments.positional.first {
    case nil: break
    case .mapping(let mapping)?: pairs = Array(zip(mapping.keys, mapping.values))
    case let value?:
      for item in try iterate(value) {
        let pair = try iterate(item)
        guard pair.count == 2 else { throw fail("\(function)(): an element is not a pair") }
        pairs.append((pair[0], pair[1]))
      }
    }
    for keyword in arguments.keywords { pairs.append((.string(keyword.name), keyword.value)) }
    try allocate(elements: 3 * pairs.count)
    let result = try mapping(pairs)
    _ = try checked(.mapping(result))
    return result
  }
}
