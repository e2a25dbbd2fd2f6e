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

  /// What reads a keyword beside this one.
  private func beside(_ keyword: String, in document: SchemaDocument) -> KeywordReader? {
    siblings[keyword].map { value in
      KeywordReader(
        keyword: keyword, value: value, path: SchemaDocument.path(document.subschemas[schema].path, keyword),
        schema: schema, siblings: siblings, budget: budget)
    }
  }

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

  /// The value as a count.
  private func count() throws(SchemaError) -> Int {
    let number = value
    if case .decimal = number { try checkRange(of: number) }
    guard let decimal = DecimalNumber(number), decimal.isWhole, !decimal.isNegative else {
      throw error("is not a whole number from 0")
    }
    // What is larger is above every limit.
    return decimal.integer ?? .max
  }

  /// Throws if a value is or has a number that doubles have no place for.
  func checkRange(of value: JSONValue) throws(SchemaError) {
    switch value {
    case .decimal(let text):
      guard DecimalNumber(value) != nil else {
        throw error("has the number \(text.prefix(40)), which is beyond the range of doubles")
      }
    case .array(let items): for item in items { try checkRange(of: item) }
    case .object(let object): for pair in object.pairs { try checkRange(of: pair.value) }
    default: break
    }
  }

  private func names(_ value: JSONValue, at path: String? = nil) throws(SchemaError) -> [String] {
    guard let names = value.array?.map(\.string), names.allSatisfy({ $0 != nil }) else {
      throw SchemaError(path ?? self.path, "\(keyword) is not an array of strings")
    }
    return names.compactMap(\.self)
  }

  private func decimal(_ value: JSONValue) throws(SchemaError) -> DecimalNumber {
    try checkRange(of: value)
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
    case "minimum": return try bounds(isExclusive: siblings["exclusiveMinimum"] == true)
    case "maximum": return try bounds(isExclusive: siblings["exclusiveMaximum"] == true)
    default:
      if value.bool != nil {
        let companion = keyword == "exclusiveMinimum" ? "minimum" : "maximum"
        guard value == false || siblings[companion] != nil else { throw error("is true without \(companion)") }
        return []
      }
      return try bounds(isExclusive: true)
    }
  }

  /// A bound, and what it is for readers who take numbers for doubles. They have a large one that is not written as an integer
  /// as the double, which they compare with integers.
  private func bounds(isExclusive: Bool) throws(SchemaError) -> [SchemaAssertion] {
    func bounds(_ number: DecimalNumber) -> NumberBounds {
      let bound = NumberBounds.Bound(number: number, isExclusive: isExclusive)
      let isLower = keyword == "minimum" || keyword == "exclusiveMinimum"
      return isLower ? NumberBounds(lower: bound) : NumberBounds(upper: bound)
    }
    let number = try decimal(value)
    var read = number
    if value.isWrittenAsDouble, let double = value.double, abs(double) > 0x1p53 {
      read = DecimalNumber(exactly: double)
    }
    return [.bounds(bounds(number), asRead: bounds(read).asRead)]
  }

  /// `pattern`, `format`, `minLength`, `maxLength`.
  func string() throws(SchemaError) -> [SchemaAssertion] {
    switch keyword {
    case "pattern":
      guard let pattern = value.string else { throw error("is not a string") }
      return [.text(try self.pattern(pattern, of: keyword, path: path))]
    case "format": return try format()
    default:
      let count = try count()
      guard count <= Self.mostCharacters else { throw error("is above \(Self.mostCharacters)") }
      return [.length(keyword == "minLength" ? CountRange(minimum: count) : CountRange(maximum: count))]
    }
  }

  /// What a format demands of strings and of numbers. Of what its `type` excludes it demands nothing.
  private func format() throws(SchemaError) -> [SchemaAssertion] {
    guard let name = value.string else { throw error("is not a string") }
    let kinds = typeBeside
    let number = NumberFormat(name)
    var demands: [SchemaAssertion] = []
    if let bounds = number?.bounds, !kinds.isDisjoint(with: .number) {
      demands.append(.bounds(bounds, asRead: bounds.asRead))
      if kinds.contains(.fraction) { demands.append(.multiple(DecimalNumber(.integer(1))!)) }
    }
    guard kinds.contains(.string) else { return demands }
    if let text = StringFormat.expression(name) ?? number?.texts {
      if text != .anything { demands.append(.text(text)) }
    } else {
      demands.append(.unsupported(.string, reason: "format \"\(name.prefix(100))\" is not supported"))
    }
    return demands
  }

  /// The kinds of values that the `type` beside the keyword allows.
  private var typeBeside: ValueKinds {
    guard let type = siblings["type"] else { return .all }
    let names = type.string.map { [$0] } ?? type.array?.compactMap(\.string) ?? []
    return names.reduce(into: []) { $0.formUnion(ValueKinds(type: $1) ?? []) }
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
      guard let reader = beside(keyword, in: document) else { return [] }
      guard let map = reader.value.object else { throw reader.error("is not an object") }
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
    if let reader = beside("prefixItems", in: document) { group.prefix = try reader.schemas(in: document) }
    if let reader = beside("items", in: document), reader.value.array != nil {
      guard group.prefix.isEmpty else { throw reader.error("is an array beside prefixItems") }
      group.prefix = try reader.schemas(in: document)
      if siblings["additionalItems"] != nil { group.rest = try document.child(schema, "additionalItems") }
    } else {
      // Without an array as items, additionalItems says nothing, and after draft 2019-09 it is no keyword.
      if let reader = beside("additionalItems", in: document), !document.subschemas[schema].isOldDraft,
        reader.value != true
      {
        throw reader.error("has no effect unless items is an array")
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
    case "discriminator":
      // OpenAPI's hint at which of the schemas beside it holds, which they decide themselves.
      guard value.object != nil else { throw error("is not an object") }
      return []
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
      if let reader = beside("minContains", in: document) { range.minimum = try reader.count() }
      if let reader = beside("maxContains", in: document) { range.maximum = try reader.count() }
      return [.contains(ItemCount(item: try document.child(schema, "contains"), range: range))]
    case "minContains", "maxContains": return []
    case "required": return [.required(try names(value))]
    case "propertyNames": return [.propertyNames(try document.child(schema, "propertyNames"))]
    case "dependentRequired", "dependentSchemas", "dependencies":
      guard let map = value.object else { throw error("is not an object") }
      var result: [SchemaAssertion] = []
      for (key, dependency) in map.pairs {
        if keyword != "dependentSchemas", dependency.array != nil {
          result.append(.dependentRequired(key, try names(dependency, at: SchemaDocument.path(path, key))))
        } else if keyword != "dependentRequired" {
          result.append(.dependentSchema(key, try document.child(schema, keyword, key)))
        } else {
          throw SchemaError(SchemaDocument.path(path, key), "\(keyword) is not an object of arrays")
        }
      }
      return result
    default: throw error("is not a keyword that is supported")
    }
  }
}
