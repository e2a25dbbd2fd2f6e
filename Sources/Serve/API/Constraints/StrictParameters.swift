import Formats

/// The schema of a tool's arguments, which are an object.
///
/// A strict function takes no arguments that it does not declare. OpenAI demands `additionalProperties: false` of each object for
/// that; here an object with `properties` that says nothing else about other keys is taken to say it.
struct StrictParameters {
  /// The subschemas that hold together with others. What is a declared key is decided where they are used.
  private var shared: Set<String> = []

  /// - Parameter isStrict: whether undeclared arguments are forbidden
  static func schema(_ parameters: JSONValue?, isStrict: Bool) -> JSONValue {
    var schema = parameters ?? ["properties": [:]]
    if schema == true { schema = [:] }
    guard let object = schema.object else { return schema }
    if isStrict {
      var strict = StrictParameters()
      strict.findShared(schema)
      let root =
        object["$ref"] == nil && !Self.combinations.contains { object[$0] != nil } && object["properties"] == nil
      schema = strict.closed(root ? .object(Self.adding([("properties", [:])], to: object)) : schema)
      // Only newer drafts have all the keywords.
      schema = .object(JSONObject(keepingFirst: (schema.object?.pairs ?? []).filter { $0.key != "$schema" }))
    }
    guard let object = schema.object, object["type"] == nil, isStrict || object["$ref"] == nil else { return schema }
    return .object(Self.adding([("type", "object")], to: object))
  }

  private static let combinations = ["allOf", "anyOf", "oneOf", "if", "then", "else", "dependentSchemas"]
  /// Whose schemas hold together with the keywords beside them.
  private static let conjunctions: Set = ["allOf", "then", "else", "dependentSchemas"]

  private static func adding(_ pairs: [(key: String, value: JSONValue)], to object: JSONObject) -> JSONObject {
    JSONObject(keepingFirst: object.pairs + pairs)
  }

  private static func children(_ value: JSONValue) -> [JSONValue] {
    value.array ?? value.object?.pairs.map(\.value) ?? []
  }

  /// Whether a schema has one subschema for the same value and no properties of its own, as Pydantic writes it.
  private static func isWrapper(_ object: JSONObject) -> Bool {
    object["allOf"]?.array?.count == 1 && object["properties"] == nil && object["$ref"] == nil
      && !combinations.contains { $0 != "allOf" && object[$0] != nil }
  }

  /// Finds the definitions that are used together with other schemas for the same value.
  private mutating func findShared(_ value: JSONValue) {
    if let object = value.object {
      if let reference = object["$ref"]?.string,
        object["properties"] != nil || Self.combinations.contains(where: { object[$0] != nil })
      {
        shared.insert(reference)
      }
      if !Self.isWrapper(object) {
        for keyword in Self.conjunctions.sorted() {
          guard let part = object[keyword] else { continue }
          let members = keyword == "then" || keyword == "else" ? [part] : Self.children(part)
          for member in members { if let reference = member.object?["$ref"]?.string { shared.insert(reference) } }
        }
      }
    }
    for child in Self.children(value) { findShared(child) }
  }

  /// The schema of a value with its objects closed.
  /// - Parameter isWhole: whether no other schema holds for the same value
  private func closed(_ schema: JSONValue, isWhole: Bool = true) -> JSONValue {
    guard let object = schema.object else { return schema }
    var pairs = object.pairs
    let isWrapper = Self.isWrapper(object)
    let hasOwn = object["properties"] != nil || object["$ref"] != nil
    for (index, (key, value)) in pairs.enumerated() {
      switch key {
      case "properties", "patternProperties": pairs[index].value = mapped(value) { closed($1) }
      case "$defs", "definitions":
        pairs[index].value = mapped(value) { closed($1, isWhole: !shared.contains("#/\(key)/\($0 ?? "")")) }
      case "items", "prefixItems", "additionalItems", "additionalProperties", "unevaluatedItems",
        "unevaluatedProperties":
        pairs[index].value = value.array == nil ? closed(value) : mapped(value) { closed($1) }
      case "anyOf", "oneOf": pairs[index].value = mapped(value) { closed($1, isWhole: isWhole && !hasOwn) }
      case "allOf": pairs[index].value = mapped(value) { closed($1, isWhole: isWhole && isWrapper) }
      case "then", "else": pairs[index].value = closed(value, isWhole: false)
      case "dependentSchemas": pairs[index].value = mapped(value) { closed($1, isWhole: false) }
      default: break
      }
    }
    let result = JSONObject(keepingFirst: pairs)
    guard isWhole, result["additionalProperties"] == nil, result["unevaluatedProperties"] == nil else {
      return .object(result)
    }
    let isTogether =
      object["$ref"].map { $0.string.map(shared.contains) ?? false } ?? false
      || !isWrapper && Self.conjunctions.contains { object[$0] != nil }
      || object["properties"] != nil && Self.combinations.contains { object[$0] != nil }
    if isTogether { return .object(Self.adding([("unevaluatedProperties", false)], to: result)) }
    if object["properties"] == nil { return .object(result) }
    return .object(Self.adding([("additionalProperties", false)], to: result))
  }

  private func mapped(_ value: JSONValue, _ change: (String?, JSONValue) -> JSONValue) -> JSONValue {
    if let list = value.array { return .array(list.map { change(nil, $0) }) }
    guard let map = value.object else { return value }
    return .object(JSONObject(keepingFirst: map.pairs.map { (key: $0.key, value: change($0.key, $0.value)) }))
  }
}
