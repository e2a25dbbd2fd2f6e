import Formats

/// Reads the keywords of one subschema.
struct SchemaKeywords {
  /// Lists of the values of `enum` and `const`, which assertions name by position.
  private(set) var values: [[JSONValue]] = []
  /// The canonical texts of each list.
  private(set) var canonicalValues: [Set<String>] = []
  private var known: [Int: [SourcedAssertion]] = [:]
  private let budget: CompilationBudget

  init(_ budget: CompilationBudget) { self.budget = budget }

  private static let annotations: Set = [
    "title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly", "$schema",
    "$comment", "$id", "id", "$anchor", "$dynamicAnchor", "$recursiveAnchor", "$vocabulary", "$defs", "definitions",
    "contentEncoding", "contentMediaType", "contentSchema", "externalDocs", "xml",
  ]
  /// Read together with another keyword.
  private static let companions: Set = [
    "patternProperties", "additionalProperties", "items", "additionalItems", "minContains", "maxContains", "then",
    "else",
    "exclusiveMinimum", "exclusiveMaximum",
  ]

  /// About how much work it is to write a value.
  func size(of value: JSONValue) -> Int {
    switch value {
    case .null, .bool: 4
    case .integer, .number: 32
    case .decimal(let text): 32 + text.utf8.count
    case .string(let text): 2 + text.utf8.count
    case .array(let items): items.reduce(2) { $0 + 16 + size(of: $1) }
    case .object(let object): object.pairs.reduce(2) { $0 + 32 + $1.key.utf8.count + size(of: $1.value) }
    }
  }

  /// What a subschema demands, keyword by keyword.
  mutating func assertions(
    of schema: Int, in document: inout SchemaDocument
  ) throws(SchemaError) -> [SourcedAssertion] {
    if let known = known[schema] { return known }
    let subschema = document.subschemas[schema]
    var result: [SourcedAssertion] = []
    switch subschema.value {
    case .bool(true): break
    case .bool(false): result = [SourcedAssertion(assertion: .kinds([]), path: subschema.path)]
    case .object(let object): result = try read(object, of: schema, in: &document)
    default: throw SchemaError(subschema.path, "a schema is an object or a boolean")
    }
    known[schema] = result
    return result
  }

  private mutating func read(
    _ object: JSONObject, of schema: Int, in document: inout SchemaDocument
  ) throws(SchemaError) -> [SourcedAssertion] {
    let subschema = document.subschemas[schema]
    var result: [SourcedAssertion] = []
    var groups: Set<String> = []
    for (keyword, value) in object.pairs {
      let path = SchemaDocument.path(subschema.path, keyword)
      try budget.spend(4 + path.utf8.count / 16 + (value.array?.count ?? value.object?.pairs.count ?? 0), at: path)
      if Self.annotations.contains(keyword) || keyword.hasPrefix("x-") { continue }
      // Nothing beside $ref counts in such a draft.
      if subschema.isOldDraft, keyword != "$ref", object["$ref"] != nil { continue }
      let reader = KeywordReader(
        keyword: keyword, value: value, path: path, schema: schema, siblings: object, budget: budget)
      var assertions: [SchemaAssertion]
      switch keyword {
      case "enum", "const":
        try reader.checkRange(of: value)
        assertions = [.values(values.count)]
        values.append(keyword == "const" ? [value] : try reader.list())
        var texts: Set<String> = []
        for value in values.last! {
          let text = value.canonical
          try budget.spend(1 + text.utf8.count, at: path)
          texts.insert(text)
        }
        canonicalValues.append(texts)
      case "$ref", "$dynamicRef", "$recursiveRef": assertions = [try reader.reference(in: &document)]
      case "properties", "patternProperties", "additionalProperties":
        assertions = groups.insert("properties").inserted ? [try reader.properties(in: document)] : []
      case "prefixItems", "items", "additionalItems":
        assertions = groups.insert("items").inserted ? [try reader.items(in: document)].compactMap(\.self) : []
      case "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf":
        assertions = try reader.number()
      case "pattern", "format", "minLength", "maxLength": assertions = try reader.string()
      case "unevaluatedProperties", "unevaluatedItems": assertions = try reader.unevaluated(in: &document)
      case "allOf", "anyOf", "oneOf", "not", "if", "then", "else": assertions = try reader.combination(in: document)
      default: assertions = try reader.other(in: document)
      }
      result += assertions.map { SourcedAssertion(assertion: $0, path: path) }
    }
    return result
  }
}
