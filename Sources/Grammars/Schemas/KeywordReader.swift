import Formats

/// Reads one keyword with its value.
struct KeywordReader {
  let keyword: String
  let value: JSONValue
  /// The JSON pointer to the keyword.
  let path: String
  /// The subschema that the keyword is in.
  let schema: Int
  let siblings: JSONObject
  let budget: CompilationBudget

  private static let mostCharacters = 1_000_000
  private static let mostDigits = 100

  /// An error about this keyword.
  func error(_ reason: String) -> SchemaError { SchemaError(path, "\(keyword) \(reason)") }

  /// The value as a list.
  func list() throws(SchemaError) -> [JSONValue] {
    guard let list = value.array else { throw error("is not an array") }
    return list
  }

  private func schemas(in document: SchemaDocument) throws(SchemaError) -> [SchemaLiteral] {
    let count = try list().count
    guard count > 0 || keyword == "prefixItems" || keyword == "items" else { throw error("is an empty array") }
    var literals: [SchemaLiteral] = []
    for index in 0..<count { literals.append(try document.child(schema, keyword, String(index))) }
    return literals
  }

  private func count(_ value: JSONValue? = nil, _ name: String? = nil) throws(SchemaError) -> Int {
    let number = value ?? self.value
    let whole = number.integer ?? number.double.flatMap { Int(exactly: $0) }
    guard let whole, whole >= 0 else {
      throw SchemaError(path, "\(name ?? keyword) is not a whole number from 0")
    }
    return whole
  }

  private func names(_ value: JSONValue) throws(SchemaError) -> [String] {
    guard let names = value.array?.map(\.string), names.allSatisfy({ $0 != nil }) else {
      throw error("is not an array of strings")
    }
    return names.compactMap(\.self)
  }

  private func decimal(_ value: JSONValue) throws(SchemaError) -> DecimalNumber {
    guard let number = DecimalNumber(value) else { throw error("is not a number") }
    guard number.whole.count + number.fraction.count <= Self.mostDigits else {
      throw error("has more than \(Self.mostDigits) digits")
    }
    return number
  }

  // MARK: kinds of keywords

  /// `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum`, `multipleOf`; in draft 4 the exclusive ones are booleans.
  func number() throws(SchemaError) -> [SchemaAssertion] {
    switch keyword {
    case "multipleOf":
      let number = try decimal(value)
      guard number > .zero else { throw error("is not above 0") }
      return [.multiple(number)]
    case "minimum":
      let isExclusive = siblings["exclusiveMinimum"] == true
      return [.bounds(NumberBounds(lower: .init(number: try decimal(value), isExclusive: isExclusive)))]
    case "maximum":
      let isExclusive = siblings["exclusiveMaximum"] == true
      return [.bounds(NumberBounds(upper: .init(number: try decimal(value), isExclusive: isExclusive)))]
    default:
      if value.bool != nil {
        let companion = keyword == "exclusiveMinimum" ? "minimum" : "maximum"
        guard value == false || siblings[companion] != nil else { throw error("is true without \(companion)") }
        return []
      }
      let bound = NumberBounds.Bound(number: try decimal(value), isExclusive: true)
      return [.bounds(keyword == "exclusiveMinimum" ? NumberBounds(lower: bound) : NumberBounds(upper: bound))]
    }
  }

  /// `pattern`, `format`, `minLength`, `maxLength`.
  func string() throws(SchemaError) -> [SchemaAssertion] {
    switch keyword {
    case "pattern":
      guard let pattern = value.string else { throw error("is not a string") }
      return [.text(try self.pattern(pattern, of: keyword, path: path))]
    case "format":
      guard let name = value.string else { throw error("is not a string") }
      guard let format = StringFormat.expression(name) else { throw error("\"\(name)\" is not supported") }
      return format == .anything ? [] : [.text(format)]
    default:
      let count = try count()
      guard count <= Self.mostCharacters else { throw error("is above \(Self.mostCharacters)") }
      return [.length(keyword == "minLength" ? CountRange(minimum: count) : CountRange(maximum: count))]
    }
  }

  /// The texts that a `pattern` matches somewhere.
  func pattern(_ pattern: String, of keyword: String, path: String) throws(SchemaError) -> TextExpression {
    do { return try RegularExpressionParser.search(pattern, budget: budget) } catch {
      throw SchemaError(path, "\(keyword) \"\(pattern.prefix(200))\": \(error)")
    }
  }

  /// `$ref` and its dynamic forms.
  func reference(in document: inout SchemaDocument) throws(SchemaError) -> SchemaAssertion {
    guard let reference = value.string else { throw error("is not a string") }
    let target = try document.resolve(reference, from: schema, keyword: keyword)
    if keyword != "$ref", document.isAmbiguous(keyword, reference, target) {
      throw error("with several possible targets is not supported; $ref is")
    }
    return .reference(target)
  }

  /// `properties`, `patternProperties` and `additionalProperties` together.
  func properties(in document: SchemaDocument) throws(SchemaError) -> SchemaAssertion {
    func map(_ keyword: String) throws(SchemaError) -> [String] {
      guard let value = siblings[keyword] else { return [] }
      guard let map = value.object else {
        throw SchemaError(document.subschemas[schema].path + "/" + keyword, "\(keyword) is not an object")
      }
      return map.keys
    }
    var group = PropertyGroup()
    for key in try map("properties") {
      group.add(.init(key: key, value: try document.child(schema, "properties", key)))
    }
    for pattern in try map("patternProperties") {
      let path = SchemaDocument.path(document.subschemas[schema].path + "/patternProperties", pattern)
      let keys = try self.pattern(pattern, of: "patternProperties", path: path)
      group.patterns.append(.init(keys: keys, value: try document.child(schema, "patternProperties", pattern)))
    }
    if siblings["additionalProperties"] != nil { group.additional = try document.child(schema, "additionalProperties") }
    return .properties(group)
  }

  /// `prefixItems` and `items`, or `items` as an array and `additionalItems`.
  func items(in document: SchemaDocument) throws(SchemaError) -> SchemaAssertion? {
    var group = ItemGroup()
    func prefix(_ keyword: String, _ value: JSONValue) throws(SchemaError) {
      guard let count = value.array?.count else { throw SchemaError(path, "\(keyword) is not an array") }
      for index in 0..<count { group.prefix.append(try document.child(schema, keyword, String(index))) }
    }
    if let value = siblings["prefixItems"] { try prefix("prefixItems", value) }
    if let value = siblings["items"], value.array != nil {
      guard group.prefix.isEmpty else { throw error("is an array beside prefixItems") }
      try prefix("items", value)
      if siblings["additionalItems"] != nil { group.rest = try document.child(schema, "additionalItems") }
    } else {
      // Without an array as items, additionalItems says nothing, and after draft 2019-09 it is no keyword.
      if let value = siblings["additionalItems"], !document.subschemas[schema].isOldDraft, value != true {
        throw SchemaError(
          document.subschemas[schema].path + "/additionalItems",
          "additionalItems has no effect unless items is an array")
      }
      if siblings["items"] != nil { group.rest = try document.child(schema, "items") }
    }
    return .items(group)
  }

  /// `allOf`, `anyOf`, `oneOf`, `not`, `if` with `then` and `else`.
  func combination(in document: SchemaDocument) throws(SchemaError) -> [SchemaAssertion] {
    switch keyword {
    case "allOf": return [.allOf(try schemas(in: document))]
    case "anyOf": return [.anyOf(try schemas(in: document))]
    case "oneOf": return [.oneOf(try schemas(in: document))]
    case "not": return [.reference(try document.child(schema, "not").negated)]
    case "if":
      let then = siblings["then"] == nil ? nil : try document.child(schema, "then")
      let otherwise = siblings["else"] == nil ? nil : try document.child(schema, "else")
      guard then != nil || otherwise != nil else { return [] }
      return [.conditional(condition: try document.child(schema, "if"), then: then, else: otherwise)]
    default: return []
    }
  }

  /// Every other keyword.
  func other(in document: SchemaDocument) throws(SchemaError) -> [SchemaAssertion] {
    switch keyword {
    case "type":
      let names = if let name = value.string { [name] } else { try names(value) }
      var kinds: ValueKinds = []
      for name in names {
        guard let kind = ValueKinds(type: name) else { throw error("\"\(name)\" is not a type") }
        kinds.formUnion(kind)
      }
      return [.kinds(kinds)]
    case "nullable":
      // OpenAPI 3.0 says so beside a type; what it would allow is refused rather than left out.
      guard value == false else { throw error("is not JSON Schema; a type \"null\" is") }
      return []
    case "minItems": return [.itemCount(CountRange(minimum: try count()))]
    case "maxItems": return [.itemCount(CountRange(maximum: try count()))]
    case "minProperties": return [.propertyCount(CountRange(minimum: try count()))]
    case "maxProperties": return [.propertyCount(CountRange(maximum: try count()))]
    case "uniqueItems":
      guard let isUnique = value.bool else { throw error("is not a boolean") }
      return isUnique ? [.uniqueItems] : []
    case "contains":
      var range = CountRange(minimum: 1)
      if let value = siblings["minContains"] { range.minimum = try count(value, "minContains") }
      if let value = siblings["maxContains"] { range.maximum = try count(value, "maxContains") }
      return [.contains(ItemCount(item: try document.child(schema, "contains"), range: range))]
    case "minContains", "maxContains": return []
    case "required": return [.required(try names(value))]
    case "propertyNames": return [.propertyNames(try document.child(schema, "propertyNames"))]
    case "dependentRequired", "dependentSchemas", "dependencies":
      guard let map = value.object else { throw error("is not an object") }
      var result: [SchemaAssertion] = []
      for (key, dependency) in map.pairs {
        if keyword != "dependentSchemas", dependency.array != nil {
          result.append(.dependentRequired(key, try names(dependency)))
        } else if keyword != "dependentRequired" {
          result.append(.dependentSchema(key, try document.child(schema, keyword, key)))
        } else {
          throw error("is not an object of arrays")
        }
      }
      return result
    default: throw error("is not a keyword that is supported")
    }
  }
}
