/// The state of one rendering, and its limits.
final class Interpreter {
  let program: Program
  let now: TemplateTime
  let limits: TemplateLimits
  private var steps = 0
  private var allocated = 0
  var depth = 0
  /// The line of the expression or statement that is being evaluated, for errors.
  var line = 1
  /// The output of the current block so far.
  var output = Text()
  /// The output of the block whose filter is being applied.
  var captured = Text()
  var generationCount = 0
  /// Objects that may contain themselves, or form chains so long that freeing one inside the other would overflow the stack.
  /// They are cleared when the rendering ends.
  private var scopes: [Scope] = []
  var namespaces: [Namespace] = []
  var changedLoops: [Loop] = []

  init(program: Program, now: TemplateTime, limits: TemplateLimits) {
    self.program = program
    self.now = now
    self.limits = limits
  }

  func run(_ variables: [String: TemplateValue]) throws(TemplateError) -> Text {
    defer {
      for scope in scopes { scope.variables = [:] }
      for namespace in namespaces { namespace.clear() }
      for loop in changedLoops { loop.lastChanged = nil }
    }
    let context = Scope(parent: nil)
    for (id, name) in program.names.enumerated() {
      if let variable = variables[name] {
        context.variables[id] =
          switch name {
          case "messages": try messages(variable)
          case "tools": try value(of: variable, source: toolSource, depth: 0)
          default: try value(of: variable, source: noSource, depth: 0)
          }
      } else if let function = Function.named[name] {
        context.variables[id] = .function(function)
      } else if Function.unsupported.contains(name) {
        let reason = "the function '\(name)' is not supported in chat templates"
        context.variables[id] = .undefined(.message(reason))
      }
    }
    _ = try execute(program.body, Scope(parent: context))
    return output
  }

  // MARK: Errors and limits

  func fail(_ reason: String) -> TemplateError { TemplateError(kind: .runtime, line: line, reason: reason) }

  func limit(_ reason: String) -> TemplateError { TemplateError(kind: .limit, line: line, reason: reason) }

  @inline(__always) func charge(_ count: Int = 1) throws(TemplateError) {
    steps &+= count
    if steps > limits.steps { throw limit("rendering takes more than \(limits.steps) steps") }
  }

  /// Counts bytes that an operation will read against the limit of steps.
  @inline(__always) func read(_ bytes: Int) throws(TemplateError) { try charge(1 + bytes / 64) }

  /// Counts bytes of a value that will be created against the limits of memory and steps.
  func allocate(_ bytes: Int) throws(TemplateError) {
    let (sum, overflow) = allocated.addingReportingOverflow(max(bytes, 0))
    guard !overflow, sum <= limits.allocatedBytes else {
      throw limit("rendering makes more than \(limits.allocatedBytes) bytes of values")
    }
    allocated = sum
    try charge(1 + bytes / 64)
  }

  /// Counts the bytes and marks of a text that will be copied.
  func allocate(_ text: Text) throws(TemplateError) { try allocate(text.bytes.count + 24 * text.markCount) }

  /// Counts the elements of a list that will be created.
  func allocate(elements count: Int) throws(TemplateError) {
    let (bytes, overflow) = max(count, 0).multipliedReportingOverflow(by: 64)
    try allocate(overflow ? Int.max : bytes)
    try charge(max(count, 0))
  }

  /// How many more elements may be created. For operations that learn their number of elements only while they run.
  var remainingElements: Int { max(0, limits.allocatedBytes - allocated) / 64 }

  func enter() throws(TemplateError) {
    depth += 1
    if depth > limits.depth { throw limit("evaluation nests more than \(limits.depth) levels deep") }
    try charge()
  }

  @inline(__always) func leave() { depth -= 1 }

  func checked(_ value: Value) throws(TemplateError) -> Value {
    if value.depth > limits.valueDepth { throw limit("a value nests more than \(limits.valueDepth) levels deep") }
    return value
  }

  func list(_ items: [Value]) throws(TemplateError) -> Value { try checked(.list(List(items))) }

  func generator(_ items: [Value]) throws(TemplateError) -> Value { try checked(.generator(Generator(items))) }

  /// Records the frames that a macro or a recursive loop captures; they are cleared when the rendering ends.
  func keep(_ scope: Scope) throws(TemplateError) {
    var kept: Scope? = scope
    while let here = kept, here.parent != nil, scopes.last !== here {
      try allocate(64)
      scopes.append(here)
      kept = here.parent
    }
  }

  // MARK: Variables

  /// The messages. All of a message except its role is marked with the message's index.
  private func messages(_ variable: TemplateValue) throws(TemplateError) -> Value {
    guard case .array(let messages) = variable else { return try value(of: variable, source: noSource, depth: 0) }
    try allocate(elements: messages.count)
    var items: [Value] = []
    items.reserveCapacity(messages.count)
    for (index, message) in messages.enumerated() {
      let source = Source(clamping: min(index, Int(toolSource) - 1))
      guard case .object(let object) = message else {
        items.append(try value(of: message, source: source, depth: 1))
        continue
      }
      var pairs: [(Value, Value)] = []
      for member in object.members {
        let isRole = member.key == "role"
        pairs.append(
          (.string(member.key), try value(of: member.value, source: isRole ? noSource : source, depth: 2)))
      }
      try allocate(elements: pairs.count)
      items.append(.mapping(try mapping(pairs, source: noSource)))
    }
    return .list(List(items))
  }

  func mapping(_ pairs: [(Value, Value)], source: Source = noSource) throws(TemplateError) -> Mapping {
    guard let mapping = Mapping(pairs, source: source) else {
      let key = pairs.first { Key($0.0) == nil }?.0 ?? .none
      throw fail("unhashable type: '\(key.typeName)'")
    }
    return mapping
  }

  private func value(of variable: TemplateValue, source: Source, depth: Int) throws(TemplateError) -> Value {
    guard depth <= limits.valueDepth else { throw limit("a variable nests more than \(limits.valueDepth) levels deep") }
    switch variable {
    case .null: return .none
    case .bool(let value): return .bool(value, source)
    case .int(let value): return .int(value, source)
    case .double(let value): return .double(value, source)
    case .string(let value):
      try read(value.utf8.count)
      return .string(Text(value, source: source))
    case .array(let values):
      try allocate(elements: values.count)
      var items: [Value] = []
      items.reserveCapacity(values.count)
      for item in values { items.append(try value(of: item, source: source, depth: depth + 1)) }
      return .list(List(items, source: source))
    case .object(let object):
      try allocate(elements: 2 * object.members.count)
      var pairs: [(Value, Value)] = []
      pairs.reserveCapacity(object.members.count)
      for member in object.members {
        pairs.append(
          (
            .string(Text(member.key, source: source)),
            try value(of: member.value, source: source, depth: depth + 1)
          ))
      }
      return .mapping(try mapping(pairs, source: source))
    }
  }
}
