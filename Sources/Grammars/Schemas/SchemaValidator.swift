import Formats

/// Checks JSON values against subschemas; by it the values of an `enum` are chosen.
struct SchemaValidator {
  private static let deepest = 200

  private let expander: SchemaExpander
  private var depth = 0

  init(_ expander: SchemaExpander) { self.expander = expander }

  /// Whether the value satisfies every literal.
  mutating func accepts(_ value: JSONValue, all literals: some Sequence<SchemaLiteral>) throws(SchemaError) -> Bool {
    for literal in literals where try !accepts(value, literal) { return false }
    return true
  }

  private mutating func accepts(_ value: JSONValue, _ literal: SchemaLiteral) throws(SchemaError) -> Bool {
    depth += 1
    defer { depth -= 1 }
    // Choices within choices could take for ever.
    try expander.budget.spend(2, at: expander.document[literal].path)
    guard depth <= Self.deepest else {
      throw SchemaError(expander.document[literal].path, "references are nested more than \(Self.deepest) deep")
    }
    for assertion in try expander.assertions(of: literal) where try !satisfies(value, assertion) {
      return !literal.isPositive
    }
    return literal.isPositive
  }

  private mutating func satisfies(_ value: JSONValue, _ sourced: SourcedAssertion) throws(SchemaError) -> Bool {
    switch sourced.assertion {
    case .kinds(let kinds): return !kinds.isDisjoint(with: value.kind)
    case .values(let list):
      let text = value.canonical
      try expander.budget.spend(1 + text.utf8.count, at: sourced.path)
      return expander.keywords.canonicalValues[list].contains(text)
    case .bounds, .multiple: return numberSatisfies(value, sourced.assertion)
    case .text(let expression):
      guard let text = value.string else { return true }
      return try expander.budget.at(sourced.path) { (_) throws(CompilationBudget.Exceeded) in
        try expander.matches(text, expression)
      }
    case .length(let range):
      try expander.budget.spend((value.string?.utf8.count ?? 0) / 8, at: sourced.path)
      return value.string.map { range.contains($0.unicodeScalars.count) } ?? true
    case .items, .itemCount, .contains, .uniqueItems: return try arraySatisfies(value, sourced.assertion)
    case .properties, .required, .propertyCount, .propertyNames, .dependentRequired, .dependentSchema:
      return try objectSatisfies(value, sourced.assertion)
    case .reference(let literal): return try accepts(value, literal)
    case .allOf(let literals): return try accepts(value, all: literals)
    case .anyOf(let literals):
      for literal in literals where try accepts(value, literal) { return true }
      return false
    case .oneOf(let literals):
      var count = 0
      for literal in literals where try accepts(value, literal) { count += 1 }
      return count == 1
    case .conditional(let condition, let then, let otherwise):
      let consequence = try accepts(value, condition) ? then : otherwise
      guard let consequence else { return true }
      return try accepts(value, consequence)
    case .cases(let kinds, let cases):
      if kinds.isDisjoint(with: value.kind) { return true }
      for one in cases where try satisfies(value, one, path: sourced.path) { return true }
      return false
    case .unsupported(let kinds, let reason):
      guard !kinds.isDisjoint(with: value.kind) else { return true }
      throw SchemaError(sourced.path, reason)
    }
  }

  private mutating func satisfies(
    _ value: JSONValue, _ one: SchemaCase, path: String
  ) throws(SchemaError) -> Bool {
    for condition in one.conditions {
      switch condition {
      case .literal(let literal): guard try accepts(value, literal) else { return false }
      case .hasKey(let key): guard value.object?[key] != nil else { return false }
      }
    }
    for demand in one.demands where try !satisfies(value, SourcedAssertion(assertion: demand, path: path)) {
      return false
    }
    return true
  }

  private func numberSatisfies(_ value: JSONValue, _ assertion: SchemaAssertion) -> Bool {
    guard let number = DecimalNumber(value) else { return true }
    switch assertion {
    case .bounds(let bounds, let read): return bounds.contains(number) && read.contains(number)
    case .multiple(let divisor):
      guard let scaled = divisor.scaled else { return false }
      return number.remainder(scale: scaled.scale, divisor: scaled.value) == 0
    default: return true
    }
  }

  private mutating func arraySatisfies(
    _ value: JSONValue, _ assertion: SchemaAssertion
  ) throws(SchemaError) -> Bool {
    guard let items = value.array else { return true }
    switch assertion {
    case .items(let group):
      for (index, item) in items.enumerated() {
        let literal = index < group.prefix.count ? group.prefix[index] : group.rest
        if let literal, try !accepts(item, literal) { return false }
      }
      return true
    case .itemCount(let range): return range.contains(items.count)
    case .contains(let count):
      var matches = 0
      for item in items.dropFirst(count.from) where try accepts(item, count.item) { matches += 1 }
      return count.range.contains(matches)
    case .uniqueItems:
      var texts: Set<String> = []
      for item in items {
        let text = item.canonical
        try expander.budget.spend(1 + text.utf8.count, at: "#")
        texts.insert(text)
      }
      return texts.count == items.count
    default: return true
    }
  }

  private mutating func objectSatisfies(
    _ value: JSONValue, _ assertion: SchemaAssertion
  ) throws(SchemaError) -> Bool {
    guard let object = value.object else { return true }
    switch assertion {
    case .properties(let group):
      for (key, value) in object.pairs where try !accepts(value, all: expander.literals(ofKey: key, [group])) {
        return false
      }
      return true
    case .required(let names):
      try expander.budget.spend(names.count, at: "#")
      return names.allSatisfy { object[$0] != nil }
    case .propertyCount(let range): return range.contains(object.pairs.count)
    case .propertyNames(let literal):
      for key in object.keys where try !accepts(.string(key), literal) { return false }
      return true
    case .dependentRequired(let key, let names):
      return object[key] == nil || names.allSatisfy { object[$0] != nil }
    case .dependentSchema(let key, let literal):
      if object[key] == nil { return true }
      return try accepts(value, literal)
    default: return true
    }
  }
}

extension JSONValue {
  /// What the value is.
  var kind: ValueKinds {
    switch self {
    case .null: .null
    case .bool(let value): value ? .yes : .no
    case .integer: .integer
    case .number, .decimal: DecimalNumber(self)!.isWhole ? .integer : .fraction
    case .string: .string
    case .array: .array
    case .object: .object
    }
  }

  /// A text that is the same for values that are equal in JSON Schema: numbers by value, objects in any order.
  var canonical: String {
    switch self {
    case .integer, .number, .decimal: DecimalNumber(self)!.text
    case .array(let items): "[" + items.map(\.canonical).joined(separator: ",") + "]"
    case .object(let object):
      "{"
        + object.pairs.map { JSONValue.string($0.key).canonical + ":" + $0.value.canonical }.sorted()
        .joined(separator: ",") + "}"
    default: String(decoding: encoded, as: UTF8.self)
    }
  }
}
