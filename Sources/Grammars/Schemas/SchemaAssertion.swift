/// What a JSON value can be. Whole numbers and other numbers are apart, as are the two booleans, so that complements stay
/// exact.
struct ValueKinds: OptionSet, Hashable, Sendable {
  let rawValue: UInt8
  static let null = ValueKinds(rawValue: 1)
  static let yes = ValueKinds(rawValue: 2)
  static let no = ValueKinds(rawValue: 4)
  static let integer = ValueKinds(rawValue: 8)
  static let fraction = ValueKinds(rawValue: 16)
  static let string = ValueKinds(rawValue: 32)
  static let array = ValueKinds(rawValue: 64)
  static let object = ValueKinds(rawValue: 128)
  static let boolean: ValueKinds = [.yes, .no]
  static let number: ValueKinds = [.integer, .fraction]
  static let all = ValueKinds(rawValue: 255)
}

extension ValueKinds {
  /// The kinds of a type by its name in JSON Schema; `nil` for another name.
  init?(type: String) {
    switch type {
    case "null": self = .null
    case "boolean": self = .boolean
    case "integer": self = .integer
    case "number": self = .number
    case "string": self = .string
    case "array": self = .array
    case "object": self = .object
    default: return nil
    }
  }
}

/// A subschema, by its index in the document, that a value has to satisfy or must not satisfy.
struct SchemaLiteral: Hashable, Comparable, Sendable {
  let schema: Int
  let isPositive: Bool

  init(_ schema: Int, _ isPositive: Bool = true) {
    self.schema = schema
    self.isPositive = isPositive
  }

  /// The opposite demand.
  var negated: SchemaLiteral { SchemaLiteral(schema, !isPositive) }

  static func < (a: SchemaLiteral, b: SchemaLiteral) -> Bool {
    a.schema != b.schema ? a.schema < b.schema : a.isPositive && !b.isPositive
  }
}

/// How many items, properties or characters there may be.
struct CountRange: Hashable, Sendable {
  var minimum = 0
  var maximum: Int?

  /// The counts in both.
  func intersection(_ other: CountRange) -> CountRange {
    CountRange(
      minimum: max(minimum, other.minimum),
      maximum: maximum.map { a in other.maximum.map { min(a, $0) } ?? a } ?? other.maximum)
  }

  /// The counts below and above, which are in neither.
  var outside: [CountRange] {
    (minimum > 0 ? [CountRange(maximum: minimum - 1)] : [])
      + (maximum.map { $0 < .max ? [CountRange(minimum: $0 + 1)] : [] } ?? [])
  }

  /// Whether there is no count.
  var isEmpty: Bool { maximum.map { $0 < minimum } ?? false }
  /// Whether the count is in the range.
  func contains(_ count: Int) -> Bool { count >= minimum && maximum.map { count <= $0 } ?? true }
}

/// `properties`, `patternProperties` and `additionalProperties` of one schema.
struct PropertyGroup: Hashable, Sendable {
  /// In the order of the schema.
  private(set) var names: [Name] = []
  private var values: [String: SchemaLiteral] = [:]
  var patterns: [Pattern] = []
  /// For keys that are neither a name nor match a pattern.
  var additional: SchemaLiteral?

  /// - Parameter names: each key once
  init(names: [Name] = []) {
    for name in names { add(name) }
  }

  /// Adds a property by name.
  mutating func add(_ name: Name) {
    names.append(name)
    values[name.key] = name.value
  }

  /// What the property of a name has to satisfy; `nil` for another key.
  func value(ofName key: String) -> SchemaLiteral? { values[key] }

  struct Name: Hashable, Sendable {
    let key: String
    let value: SchemaLiteral
  }

  struct Pattern: Hashable, Sendable {
    let keys: TextExpression
    let value: SchemaLiteral
  }
}

/// `prefixItems` and `items` of one schema.
struct ItemGroup: Hashable, Sendable {
  var prefix: [SchemaLiteral?] = []
  var rest: SchemaLiteral?
}

/// `contains` with its bounds.
struct ItemCount: Hashable, Sendable {
  var item: SchemaLiteral
  var range: CountRange
  /// The first index that counts.
  var from = 0
}

/// What a schema demands of a value, one keyword or several that belong together.
enum SchemaAssertion: Hashable, Sendable {
  case kinds(ValueKinds)
  /// One of the values of a list in the document.
  case values(Int)
  /// The bounds as they are written, and as readers have them who take them for doubles. Numbers are held to both.
  case bounds(NumberBounds, asRead: NumberBounds)
  case multiple(DecimalNumber)
  case text(TextExpression)
  case length(CountRange)
  case items(ItemGroup)
  case itemCount(CountRange)
  case contains(ItemCount)
  case uniqueItems
  case properties(PropertyGroup)
  case required([String])
  case propertyCount(CountRange)
  case propertyNames(SchemaLiteral)
  /// If the key is there, these have to be there.
  case dependentRequired(String, [String])
  /// If the key is there, the schema holds.
  case dependentSchema(String, SchemaLiteral)
  case reference(SchemaLiteral)
  case allOf([SchemaLiteral])
  case anyOf([SchemaLiteral])
  case oneOf([SchemaLiteral])
  case conditional(condition: SchemaLiteral, then: SchemaLiteral?, else: SchemaLiteral?)
  /// For values of these kinds, one of the cases.
  case cases(ValueKinds, [SchemaCase])
  /// A demand on values of these kinds that no grammar can express here.
  case unsupported(ValueKinds, reason: String)
}

/// Conditions that hold together, and what is demanded beside them.
struct SchemaCase: Hashable, Sendable {
  enum Condition: Hashable, Sendable {
    case literal(SchemaLiteral)
    /// The object has the key.
    case hasKey(String)
  }

  var conditions: [Condition]
  var demands: [SchemaAssertion]
}

/// An assertion with the keyword it comes from.
struct SourcedAssertion: Hashable, Sendable {
  let assertion: SchemaAssertion
  /// The JSON pointer to the keyword.
  let path: String
}
