import Formats

/// The properties and items that keywords beside `unevaluatedProperties` and `unevaluatedItems` hold to a schema, whatever the
/// value is.
struct EvaluatedParts: Hashable {
  private static let mostSchemas = 200

  /// In the order of the schemas.
  private(set) var names: [String] = []
  private(set) var patterns: [TextExpression] = []
  private var knownNames: Set<String> = []
  private var knownPatterns: Set<TextExpression> = []
  /// Whether these are all properties.
  private(set) var hasAllProperties = false
  /// How many items from the first on.
  private(set) var prefix = 0
  private(set) var hasAllItems = false
  /// A keyword of which the value decides the properties, and one of which it decides the items.
  private(set) var undecidedProperties: String?
  private(set) var undecidedItems: String?

  /// What the schema of a keyword, and those that hold together with it, evaluate.
  init(beside reader: KeywordReader, in document: inout SchemaDocument) throws(SchemaError) {
    var seen: Set<Int> = []
    try add(reader.schema, except: reader.keyword, in: &document, &seen, reader)
  }

  private init() {}

  /// Whether no property and no item is evaluated.
  private var isEmpty: Bool { self == EvaluatedParts() }

  private mutating func add(
    _ schema: Int, except keyword: String? = nil, in document: inout SchemaDocument, _ seen: inout Set<Int>,
    _ reader: KeywordReader
  ) throws(SchemaError) {
    guard seen.insert(schema).inserted, let object = document.subschemas[schema].value.object else { return }
    let path = document.subschemas[schema].path
    guard seen.count <= Self.mostSchemas else { throw reader.error("applies to more than \(Self.mostSchemas) schemas") }
    for (key, value) in object.pairs where key != keyword {
      let count = value.array?.count ?? value.object?.pairs.count ?? 0
      try reader.budget.spend(1 + count, at: reader.path)
      switch key {
      case "properties": for name in value.object?.keys ?? [] { add(name: name) }
      case "patternProperties":
        for pattern in value.object?.keys ?? [] {
          add(pattern: try reader.pattern(pattern, of: key, path: SchemaDocument.path(path + "/" + key, pattern)))
        }
      case "additionalProperties", "unevaluatedProperties": hasAllProperties = true
      case "prefixItems": prefix = max(prefix, count)
      case "items": if value.array == nil { hasAllItems = true } else { prefix = max(prefix, count) }
      case "additionalItems": if object["items"]?.array != nil { hasAllItems = true }
      case "unevaluatedItems": hasAllItems = true
      // It evaluates the items that it finds.
      case "contains": undecidedItems = key
      case "$ref", "$dynamicRef", "$recursiveRef":
        guard let reference = value.string else { continue }
        let target = try document.resolve(reference, from: schema, keyword: key)
        try add(target.schema, in: &document, &seen, reader)
      case "allOf":
        for index in 0..<count {
          try add(document.child(schema, key, String(index)).schema, in: &document, &seen, reader)
        }
      case "anyOf", "oneOf":
        var members: [Int] = []
        for index in 0..<count { members.append(try document.child(schema, key, String(index)).schema) }
        try addChoice(key, members, in: &document, seen, reader)
      case "if", "then", "else":
        try addChoice(key, [try document.child(schema, key).schema], isCertain: false, in: &document, seen, reader)
      case "dependentSchemas", "dependencies":
        var members: [Int] = []
        for (name, member) in value.object?.pairs ?? [] where member.array == nil {
          members.append(try document.child(schema, key, name).schema)
        }
        try addChoice(key, members, isCertain: false, in: &document, seen, reader)
      default: break
      }
    }
  }

  /// Adds schemas of which the value decides which hold. Where all evaluate the same, it makes no difference.
  private mutating func addChoice(
    _ keyword: String, _ schemas: [Int], isCertain: Bool = true, in document: inout SchemaDocument, _ seen: Set<Int>,
    _ reader: KeywordReader
  ) throws(SchemaError) {
    var parts: [EvaluatedParts] = []
    for schema in schemas {
      var (part, seen) = (EvaluatedParts(), seen)
      try part.add(schema, in: &document, &seen, reader)
      parts.append(part)
    }
    guard let first = parts.first, !parts.allSatisfy(\.isEmpty) else { return }
    if isCertain, parts.allSatisfy({ $0 == first }) { return merge(first) }
    for part in parts {
      if !part.names.isEmpty || !part.patterns.isEmpty || part.hasAllProperties || part.undecidedProperties != nil {
        undecidedProperties = keyword
      }
      if part.prefix > 0 || part.hasAllItems || part.undecidedItems != nil { undecidedItems = keyword }
    }
  }

  private mutating func add(name: String) { if knownNames.insert(name).inserted { names.append(name) } }
  private mutating func add(pattern: TextExpression) {
    if knownPatterns.insert(pattern).inserted { patterns.append(pattern) }
  }

  private mutating func merge(_ other: EvaluatedParts) {
    for name in other.names { add(name: name) }
    for pattern in other.patterns { add(pattern: pattern) }
    hasAllProperties = hasAllProperties || other.hasAllProperties
    prefix = max(prefix, other.prefix)
    hasAllItems = hasAllItems || other.hasAllItems
    undecidedProperties = undecidedProperties ?? other.undecidedProperties
    undecidedItems = undecidedItems ?? other.undecidedItems
  }
}

extension KeywordReader {
  /// `unevaluatedProperties` and `unevaluatedItems`, where the schemas alone decide what is evaluated.
  func unevaluated(in document: inout SchemaDocument) throws(SchemaError) -> [SchemaAssertion] {
    let rest = try document.child(schema, keyword)
    if value == true || value.object?.isEmpty == true { return [] }
    let isOfProperties = keyword == "unevaluatedProperties"
    let kinds: ValueKinds = isOfProperties ? .object : .array
    let other = isOfProperties ? "additionalProperties" : "items"
    if document.subschemas[schema].isOldDraft {
      return [.unsupported(kinds, reason: "\(keyword) is not supported in this draft; \(other) is")]
    }
    let parts = try EvaluatedParts(beside: self, in: &document)
    if isOfProperties ? parts.hasAllProperties : parts.hasAllItems { return [] }
    if let undecided = isOfProperties ? parts.undecidedProperties : parts.undecidedItems {
      return [.unsupported(kinds, reason: "\(keyword) beside \(undecided) is not supported; \(other) is")]
    }
    let always = SchemaDocument.never.negated
    if !isOfProperties {
      return [.items(ItemGroup(prefix: Array(repeating: always, count: parts.prefix), rest: rest))]
    }
    var group = PropertyGroup(names: parts.names.map { .init(key: $0, value: always) })
    group.patterns = parts.patterns.map { .init(keys: $0, value: always) }
    group.additional = rest
    return [.properties(group)]
  }
}
