/// A Python value while a template is rendered. Lists, tuples and dictionaries never change, because the sandbox forbids it;
/// only namespaces, loops and generators have state.
enum Value {
  case undefined(Missing)
  case none
  case bool(Bool, Source)
  case int(Int, Source)
  case double(Double, Source)
  case string(Text)
  case list(List)
  case tuple(List)
  case mapping(Mapping)
  case view(View)
  case range(IntegerRange)
  case generator(Generator)
  case namespace(Namespace)
  case macro(Macro)
  case method(BoundMethod)
  case function(Function)
  case loop(Loop)

  static func bool(_ value: Bool) -> Value { .bool(value, noSource) }
  static func int(_ value: Int) -> Value { .int(value, noSource) }
  static func double(_ value: Double) -> Value { .double(value, noSource) }
  static func string(_ value: String) -> Value { .string(Text(value)) }

  /// The name of Python's type, for error messages.
  var typeName: String {
    switch self {
    case .undefined: "Undefined"
    case .none: "NoneType"
    case .bool: "bool"
    case .int: "int"
    case .double: "float"
    case .string: "str"
    case .list: "list"
    case .tuple: "tuple"
    case .mapping: "dict"
    case .view(let view): view.kind.rawValue
    case .range: "range"
    case .generator: "generator"
    case .namespace: "Namespace"
    case .macro: "Macro"
    case .method: "builtin_function_or_method"
    case .function: "function"
    case .loop: "LoopContext"
    }
  }

  /// How deeply containers nest in the value, itself included. Namespaces and macros count as 0: the interpreter holds them
  /// until the rendering ends, so they are never freed one inside the other.
  var depth: Int {
    switch self {
    case .list(let list), .tuple(let list): list.depth
    case .mapping(let dictionary): dictionary.depth
    case .view(let view): view.depth
    case .generator(let generator): generator.depth
    case .method(let method): method.receiver.depth + 1
    case .loop(let loop): loop.depth
    default: 0
    }
  }

  /// Python's `bool(value)`.
  var isTrue: Bool {
    switch self {
    case .undefined, .none: false
    case .bool(let value, _): value
    case .int(let value, _): value != 0
    case .double(let value, _): value != 0
    case .string(let text): !text.isEmpty
    case .list(let list), .tuple(let list): !list.items.isEmpty
    case .mapping(let dictionary): dictionary.count > 0
    case .view(let view): !view.items.isEmpty
    case .range(let range): range.count > 0
    case .loop(let loop): !loop.items.isEmpty
    default: true
    }
  }

  var isUndefined: Bool { if case .undefined = self { true } else { false } }
}

/// Why a value is undefined. Its message is made only when an error needs it.
enum Missing {
  case name(String)
  case attribute(owner: String, String)
  case message(String)
  /// jinja2's sandbox forbids the attribute.
  case unsafe(owner: String, String)

  var message: String {
    switch self {
    case .name(let name): "'\(name)' is undefined"
    case .attribute(let owner, let name):
      "'\(["dict", "list", "str", "tuple", "int"].contains(owner) ? owner + " object" : owner)' has no attribute '\(name)'"
    case .message(let message): message
    case .unsafe(let owner, let name): "access to attribute '\(name)' of '\(owner)' object is unsafe."
    }
  }
}

extension [Value] {
  /// The depth of the deepest element; 0 without elements.
  fileprivate var depth: Int { reduce(0) { Swift.max($0, $1.depth) } }
}

/// The elements of a list or a tuple.
final class List {
  let items: [Value]
  let depth: Int
  /// The message, or the tools, that the whole list came from.
  let source: Source

  init(_ items: [Value], source: Source = noSource) {
    self.items = items
    self.source = source
    depth = 1 + items.depth
  }
}

/// A dictionary: keys and values in the order of insertion. Up to eight string keys are found by comparison, more by hash.
final class Mapping {
  let keys: [Value]
  let values: [Value]
  let depth: Int
  let source: Source
  private let index: [Key: Int]

  var count: Int { keys.count }

  /// Equal keys become one: the first, with the last one's value. `nil` if a key cannot be hashed.
  init?(_ pairs: [(Value, Value)], source: Source = noSource) {
    var keys: [Value] = []
    var values: [Value] = []
    var index: [Key: Int] = [:]
    keys.reserveCapacity(pairs.count)
    values.reserveCapacity(pairs.count)
    index.reserveCapacity(pairs.count)
    for (key, value) in pairs {
      guard let hashed = Key(key) else { return nil }
      if let offset = index[hashed] {
        values[offset] = value
      } else {
        index[hashed] = keys.count
        keys.append(key)
        values.append(value)
      }
    }
    self.keys = keys
    self.values = values
    self.source = source
    self.index = index
    depth = 1 + max(keys.depth, values.depth)
  }

  subscript(text: Text) -> Value? {
    if keys.count <= 8 {
      for (offset, key) in keys.enumerated() {
        if case .string(let name) = key, name.bytes == text.bytes { return values[offset] }
      }
      return nil
    }
    return index[.text(text.bytes)].map { values[$0] }
  }

  subscript(key: Key) -> Value? { index[key].map { values[$0] } }
}

/// A dictionary key in the form that equal keys share: 1, 1.0 and true are one key.
enum Key: Hashable {
  case none
  case int(Int)
  case double(Double)
  case text([UInt8])
  case tuple([Key])

  init?(_ value: Value) {
    switch value {
    case .none: self = .none
    case .bool(let value, _): self = .int(value ? 1 : 0)
    case .int(let value, _): self = .int(value)
    case .double(let value, _): self = Int(exactly: value).map(Key.int) ?? .double(value)
    case .string(let text): self = .text(text.bytes)
    case .tuple(let list):
      var parts: [Key] = []
      for item in list.items {
        guard let part = Key(item) else { return nil }
        parts.append(part)
      }
      self = .tuple(parts)
    default: return nil
    }
  }
}

/// What `keys()`, `values()` and `items()` of a dictionary return.
final class View {
  enum Kind: String { case keys = "dict_keys", values = "dict_values", items = "dict_items" }
  let kind: Kind
  let items: [Value]
  let depth: Int

  init(_ kind: Kind, _ items: [Value]) {
    self.kind = kind
    self.items = items
    depth = 1 + items.depth
  }
}

/// Python's `range`.
struct IntegerRange {
  let start: Int
  let step: Int
  let count: Int
  let stop: Int

  func value(at index: Int) -> Int { start + index * step }
}

/// An iterator that can be read once, like Python's generators. Its items are made in advance.
final class Generator {
  private let items: [Value]
  private var position = 0
  let depth: Int

  init(_ items: [Value]) {
    self.items = items
    depth = 1 + items.depth
  }

  func rest() -> [Value] {
    defer { position = items.count }
    return position == 0 ? items : Array(items[position...])
  }

  func next() -> Value? {
    guard position < items.count else { return nil }
    position += 1
    return items[position - 1]
  }
}

/// What `namespace()` returns: the one object whose attributes a template can set.
final class Namespace {
  private(set) var names: [Text] = []
  private(set) var values: [Value] = []
  private var index: [Text: Int] = [:]

  subscript(name: Text) -> Value? {
    get { index[name].map { values[$0] } }
    set {
      guard let newValue else { return }
      if let offset = index[name] {
        values[offset] = newValue
      } else {
        index[name] = names.count
        names.append(name)
        values.append(newValue)
      }
    }
  }

  /// Releases the values, so that a namespace that contains itself is freed.
  func clear() {
    values = []
    index = [:]
  }
}

/// A macro with the frame that it was defined in.
final class Macro {
  let definition: MacroDefinition
  let scope: Scope

  init(definition: MacroDefinition, scope: Scope) {
    self.definition = definition
    self.scope = scope
  }
}

/// A method of a value, not called yet.
final class BoundMethod {
  let receiver: Value
  let method: Method

  init(receiver: Value, method: Method) {
    self.receiver = receiver
    self.method = method
  }
}

/// A function that every template can call.
enum Function {
  case range, dictionary, namespace, raiseException, strftimeNow

  static let named: [String: Function] = [
    "range": .range, "dict": .dictionary, "namespace": .namespace, "raise_exception": .raiseException,
    "strftime_now": .strftimeNow,
  ]
  /// jinja2's other functions, which are for web pages. No published chat template uses them.
  static let unsupported: Set<String> = ["cycler", "joiner", "lipsum"]
}

/// The `loop` variable.
final class Loop {
  let items: [Value]
  let depth0: Int
  /// The loop that `loop(…)` runs again, and its frame; `nil` unless the loop is recursive.
  let recursion: (definition: ForLoop, scope: Scope)?
  let depth: Int
  var index = 0
  var lastChanged: [Value]?

  init(items: [Value], depth0: Int, recursion: (definition: ForLoop, scope: Scope)?) {
    self.items = items
    self.depth0 = depth0
    self.recursion = recursion
    depth = 1 + items.depth
  }
}

/// The variables of a frame, and the frames around it. A frame that a macro captures is cleared when the rendering ends.
final class Scope {
  var variables: [Int: Value] = [:]
  let parent: Scope?

  init(parent: Scope?) { self.parent = parent }

  func value(_ id: Int) -> Value? {
    var scope: Scope? = self
    while let here = scope {
      if let value = here.variables[id] { return value }
      scope = here.parent
    }
    return nil
  }
}
