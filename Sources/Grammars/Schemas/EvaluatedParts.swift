import Formats

/// Properties and items that keywords beside `unevaluatedProperties` and `unevaluatedItems` hold to a schema.
struct EvaluatedParts: Hashable {
  /// In the order of the schemas.
  private(set) var names: [String] = []
  private(set) var patterns: [TextExpression] = []
  private var knownNames: Set<String> = []
  private var knownPatterns: Set<TextExpression> = []
  /// Whether these are all properties.
  var hasAllProperties = false
  /// How many items from the first on.
  var prefix = 0
  var hasAllItems = false
  /// What `contains` finds; the items that satisfy one of these are parts, too.
  var found: [SchemaLiteral] = []

  /// Adds a property.
  mutating func add(name: String) { if knownNames.insert(name).inserted { names.append(name) } }

  /// Adds the properties whose names match.
  mutating func add(pattern: TextExpression) {
    if knownPatterns.insert(pattern).inserted { patterns.append(pattern) }
  }

  /// Adds all of others.
  mutating func merge(_ other: EvaluatedParts) {
    for name in other.names { add(name: name) }
    for pattern in other.patterns { add(pattern: pattern) }
    hasAllProperties = hasAllProperties || other.hasAllProperties
    prefix = max(prefix, other.prefix)
    hasAllItems = hasAllItems || other.hasAllItems
    for literal in other.found where !found.contains(literal) { found.append(literal) }
  }

  /// Only the properties, or only the items.
  func only(properties: Bool) -> EvaluatedParts {
    var parts = EvaluatedParts()
    if properties {
      (parts.names, parts.knownNames) = (names, knownNames)
      (parts.patterns, parts.knownPatterns) = (patterns, knownPatterns)
      parts.hasAllProperties = hasAllProperties
    } else {
      (parts.prefix, parts.hasAllItems, parts.found) = (prefix, hasAllItems, found)
    }
    return parts
  }
}

/// The cases of what a schema evaluates. At least one holds for every value of the schema, and what it evaluates is not more than
/// what the schema does; one of those that hold has all of it.
struct EvaluationCases {
  private static let mostSchemas = 200
  private static let mostCases = 200

  struct Case {
    var conditions: [SchemaCase.Condition] = []
    var parts = EvaluatedParts()
  }

  private(set) var cases = [Case()]
  private let reader: KeywordReader
  private let areProperties: Bool

  /// What the schema of a keyword, and those that hold together with it, evaluate.
  init(beside reader: KeywordReader, in document: inout SchemaDocument) throws(SchemaError) {
    self.init(reader)
    var (seen, visited): (Set<Int>, Int) = ([], 0)
    try add(reader.schema, except: reader.keyword, in: &document, &seen, &visited)
  }

  private init(_ reader: KeywordReader) {
    self.reader = reader
    areProperties = reader.keyword == "unevaluatedProperties"
  }

  /// Adds what a schema evaluates that holds wherever the cases do.
  private mutating func add(
    _ schema: Int, except keyword: String? = nil, in document: inout SchemaDocument, _ seen: inout Set<Int>,
    _ visited: inout Int
  ) throws(SchemaError) {
    guard seen.insert(schema).inserted, let object = document.subschemas[schema].value.object else { return }
    let path = document.subschemas[schema].path
    visited += 1
    guard visited <= Self.mostSchemas else { throw reader.error("applies to more than \(Self.mostSchemas) schemas") }
    var parts = EvaluatedParts()
    for (key, value) in object.pairs where key != keyword {
      let count = value.array?.count ?? value.object?.pairs.count ?? 0
      try reader.budget.spend(1 + count, at: reader.path)
      switch key {
      case "properties": for name in value.object?.keys ?? [] { parts.add(name: name) }
      case "patternProperties":
        for pattern in value.object?.keys ?? [] {
          parts.add(
            pattern: try reader.pattern(pattern, of: key, path: SchemaDocument.path(path + "/" + key, pattern)))
        }
      case "additionalProperties", "unevaluatedProperties": parts.hasAllProperties = true
      case "prefixItems": parts.prefix = max(parts.prefix, count)
      case "items": if value.array == nil { parts.hasAllItems = true } else { parts.prefix = max(parts.prefix, count) }
      case "additionalItems": if object["items"]?.array != nil { parts.hasAllItems = true }
      case "unevaluatedItems": parts.hasAllItems = true
      case "contains": parts.found = [try document.child(schema, key)]
      case "$ref", "$dynamicRef", "$recursiveRef":
        guard let reference = value.string else { continue }
        let target = try document.resolve(reference, from: schema, keyword: key)
        try add(target.schema, in: &document, &seen, &visited)
      case "allOf":
        for index in 0..<count {
          try add(document.child(schema, key, String(index)).schema, in: &document, &seen, &visited)
        }
      case "oneOf":
        var options: [Case] = []
        for index in 0..<count {
          options += try self.options(document.child(schema, key, String(index)), in: &document, seen, &visited)
        }
        try combine(with: options)
      case "anyOf":
        // Some members hold: each case of one, together with each of the others or not.
        var options = [Case()]
        for index in 0..<count {
          let next = try self.options(document.child(schema, key, String(index)), in: &document, seen, &visited)
          options += try product(options, next)
        }
        try combine(with: Array(options.dropFirst()))
      case "if":
        let condition = try document.child(schema, key)
        var holds = EvaluationCases(reader)
        var inner = seen
        try holds.add(condition.schema, in: &document, &inner, &visited)
        if object["then"] != nil {
          try holds.add(document.child(schema, "then").schema, in: &document, &inner, &visited)
        }
        var fails = EvaluationCases(reader)
        inner = seen
        if object["else"] != nil {
          try fails.add(document.child(schema, "else").schema, in: &document, &inner, &visited)
        }
        try combine(
          with: holds.cases(under: .literal(condition)) + fails.cases(under: .literal(condition.negated)))
      case "dependentSchemas", "dependencies":
        for (name, member) in value.object?.pairs ?? [] where member.array == nil {
          var holds = EvaluationCases(reader)
          var inner = seen
          try holds.add(document.child(schema, key, name).schema, in: &document, &inner, &visited)
          try combine(with: [Case()] + holds.cases(under: .hasKey(name)))
        }
      default: break
      }
    }
    try combine(with: [Case(parts: parts)])
  }

  /// The cases in which a schema holds.
  private func options(
    _ literal: SchemaLiteral, in document: inout SchemaDocument, _ seen: Set<Int>, _ visited: inout Int
  ) throws(SchemaError) -> [Case] {
    var (member, seen) = (EvaluationCases(reader), seen)
    try member.add(literal.schema, in: &document, &seen, &visited)
    return member.cases(under: .literal(literal))
  }

  /// The cases under a condition, which those without parts need not.
  private func cases(under condition: SchemaCase.Condition) -> [Case] {
    let nothing = EvaluatedParts()
    return cases.map { one in
      let parts = one.parts.only(properties: areProperties)
      return Case(conditions: parts == nothing ? [] : [condition] + one.conditions, parts: parts)
    }
  }

  /// Combines each case with each option. Where all options evaluate the same, it makes no difference which one holds.
  private mutating func combine(with options: [Case]) throws(SchemaError) {
    guard let first = options.first else { return }
    let parts = first.parts.only(properties: areProperties)
    if options.allSatisfy({ $0.parts.only(properties: areProperties) == parts }) {
      for index in cases.indices { cases[index].parts.merge(parts) }
      return
    }
    cases = try product(cases, options)
  }

  private func product(_ first: [Case], _ second: [Case]) throws(SchemaError) -> [Case] {
    guard first.count * second.count <= Self.mostCases else {
      throw reader.error("depends on more than \(Self.mostCases) cases")
    }
    var result: [Case] = []
    for one in first {
      for other in second {
        try reader.budget.spend(4 + one.parts.names.count + other.parts.names.count, at: reader.path)
        var next = one
        next.parts.merge(other.parts)
        for condition in other.conditions where !next.conditions.contains(condition) {
          next.conditions.append(condition)
        }
        result.append(next)
      }
    }
    return result
  }
}

extension KeywordReader {
  /// `unevaluatedProperties` and `unevaluatedItems`.
  func unevaluated(in document: inout SchemaDocument) throws(SchemaError) -> [SchemaAssertion] {
    let rest = try document.child(schema, keyword)
    if value == true || value.object?.isEmpty == true { return [] }
    let areProperties = keyword == "unevaluatedProperties"
    let kinds: ValueKinds = areProperties ? .object : .array
    let other = areProperties ? "additionalProperties" : "items"
    if document.subschemas[schema].isOldDraft {
      return [.unsupported(kinds, reason: "\(keyword) is not supported in this draft; \(other) is")]
    }
    let cases = try EvaluationCases(beside: self, in: &document).cases
    let hasFound = cases.contains { !$0.parts.found.isEmpty && !$0.parts.hasAllItems }
    if !areProperties, hasFound, document.isOfDraft("2019-09") {
      return [.unsupported(kinds, reason: "\(keyword) beside contains is not supported in this draft; \(other) is")]
    }
    var decided: [SchemaCase] = []
    for one in cases {
      let demands = demands(beyond: one.parts, rest, in: &document)
      decided.append(SchemaCase(conditions: one.conditions, demands: demands))
    }
    if decided.count == 1, decided[0].conditions.isEmpty { return decided[0].demands }
    return [.cases(kinds, decided)]
  }

  /// What is demanded of the parts that are not evaluated.
  private func demands(
    beyond parts: EvaluatedParts, _ rest: SchemaLiteral, in document: inout SchemaDocument
  ) -> [SchemaAssertion] {
    let always = SchemaDocument.never.negated
    if keyword == "unevaluatedItems" {
      if parts.hasAllItems { return [] }
      let rest = parts.found.isEmpty ? rest : document.either(parts.found + [rest], path: path)
      return [.items(ItemGroup(prefix: Array(repeating: always, count: parts.prefix), rest: rest))]
    }
    if parts.hasAllProperties { return [] }
    var group = PropertyGroup(names: parts.names.map { .init(key: $0, value: always) })
    group.patterns = parts.patterns.map { .init(keys: $0, value: always) }
    group.additional = rest
    return [.properties(group)]
  }
}
