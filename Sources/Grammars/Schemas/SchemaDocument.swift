import Formats

/// The subschemas of a JSON Schema document, found by position and by reference.
struct SchemaDocument {
  /// A subschema.
  struct Subschema {
    let value: JSONValue
    /// Its JSON pointer with "#" before it.
    let path: String
    /// The URI against which its references are resolved.
    let base: String
    /// Whether the schema names a draft before 2019-09, in which nothing beside `$ref` counts.
    let isOldDraft: Bool
  }

  /// How deep schemas may be nested.
  static let deepest = 100
  /// How many subschemas a document may have.
  static let mostSubschemas = 50_000

  /// A schema that no value satisfies.
  static let never = SchemaLiteral(0)

  private(set) var subschemas: [Subschema]
  /// The document itself.
  private(set) var root = SchemaLiteral(1)
  private var indexOfPath: [String: Int] = [:]
  private var indexOfURI: [String: Int] = [:]

  /// Finds every subschema of a document.
  init(_ document: JSONValue) throws(SchemaError) {
    subschemas = [Subschema(value: false, path: "false", base: "", isOldDraft: false)]
    try add(document, path: "#", base: "", isOldDraft: false, depth: 0)
    indexOfURI[""] = indexOfURI[""] ?? 1
  }

  /// The subschema that is a literal's.
  subscript(literal: SchemaLiteral) -> Subschema { subschemas[literal.schema] }

  /// The subschema at a path below another one, as "items" or "properties/a".
  func child(_ schema: Int, _ tokens: String...) throws(SchemaError) -> SchemaLiteral {
    let path = subschemas[schema].path + tokens.map { "/" + Self.escape($0) }.joined()
    guard let index = indexOfPath[path] else { throw SchemaError(path, "a schema is an object or a boolean") }
    return SchemaLiteral(index)
  }

  /// What a token is in a JSON pointer.
  static func escape(_ token: String) -> String {
    token.contains { $0 == "~" || $0 == "/" }
      ? token.map { $0 == "~" ? "~0" : $0 == "/" ? "~1" : String($0) }.joined() : token
  }

  // MARK: finding subschemas

  private static let drafts = [
    "schema", "draft/2020-12/schema", "draft/2019-09/schema", "draft-07/schema", "draft-06/schema", "draft-05/schema",
    "draft-04/schema",
  ]

  private static let withSchema: Set = [
    "additionalProperties", "items", "contains", "not", "if", "then", "else", "propertyNames", "additionalItems",
    "unevaluatedItems", "unevaluatedProperties",
  ]
  private static let withArray: Set = ["allOf", "anyOf", "oneOf", "prefixItems", "items"]
  private static let withMap: Set = [
    "properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies",
  ]

  private mutating func add(
    _ value: JSONValue, path: String, base: String, isOldDraft: Bool, depth: Int
  ) throws(SchemaError) {
    guard indexOfPath[path] == nil else { return }
    guard depth <= Self.deepest else { throw SchemaError(path, "schemas are nested more than \(Self.deepest) deep") }
    guard subschemas.count < Self.mostSubschemas else {
      throw SchemaError(path, "there are more than \(Self.mostSubschemas) subschemas")
    }
    var (base, isOldDraft) = (base, isOldDraft)
    if let draft = value.object?["$schema"]?.string {
      guard Self.drafts.contains(where: { draft.contains("json-schema.org/" + $0) }) else {
        throw SchemaError(path + "/$schema", "$schema \"\(draft)\" is not supported")
      }
      isOldDraft = ["draft-07", "draft-06", "draft-05", "draft-04"].contains { draft.contains($0) }
    }
    let index = subschemas.count
    if let object = value.object, !(isOldDraft && object["$ref"] != nil) {
      if let id = object["$id"]?.string ?? object["id"]?.string {
        if id.hasPrefix("#") {
          indexOfURI[base + id] = index
        } else {
          base = URIReference.resolve(id, against: base)
          if base.hasSuffix("#") { base.removeLast() }
          indexOfURI[base] = index
        }
      }
      for keyword in ["$anchor", "$dynamicAnchor"] {
        if let anchor = object[keyword]?.string { indexOfURI[base + "#" + anchor] = index }
      }
    }
    indexOfPath[path] = index
    subschemas.append(Subschema(value: value, path: path, base: base, isOldDraft: isOldDraft))
    for (keyword, inner) in value.object?.pairs ?? [] {
      let below = path + "/" + Self.escape(keyword)
      if let list = inner.array, Self.withArray.contains(keyword) {
        for (position, item) in list.enumerated() {
          try add(item, path: "\(below)/\(position)", base: base, isOldDraft: isOldDraft, depth: depth + 1)
        }
      } else if let map = inner.object, Self.withMap.contains(keyword) {
        for (key, item) in map.pairs where item.array == nil {
          try add(
            item, path: below + "/" + Self.escape(key), base: base, isOldDraft: isOldDraft, depth: depth + 1)
        }
      } else if Self.withSchema.contains(keyword) {
        try add(inner, path: below, base: base, isOldDraft: isOldDraft, depth: depth + 1)
      }
    }
  }

  // MARK: references

  /// The subschema that a reference names.
  mutating func resolve(_ reference: String, from schema: Int) throws(SchemaError) -> SchemaLiteral {
    let path = subschemas[schema].path + "/$ref"
    let parts = reference.split(separator: "#", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    let base = subschemas[schema].base
    let uri = parts[0].isEmpty ? base : URIReference.resolve(parts[0], against: base)
    guard let resource = indexOfURI[uri] ?? (parts[0].isEmpty ? 1 : nil) else {
      throw SchemaError(path, "$ref names \"\(reference)\", which is not in this schema")
    }
    guard parts.count > 1, !parts[1].isEmpty else { return SchemaLiteral(resource) }
    guard let fragment = URIReference.percentDecoded(parts[1]) else {
      throw SchemaError(path, "$ref \"\(reference)\" is not a valid URI reference")
    }
    if let anchored = indexOfURI[uri + "#" + fragment] { return SchemaLiteral(anchored) }
    guard fragment.hasPrefix("/") else {
      throw SchemaError(path, "$ref names \"\(reference)\", which is not in this schema")
    }
    let target = subschemas[resource].path + fragment
    if let known = indexOfPath[target] { return SchemaLiteral(known) }
    var value = subschemas[resource].value
    for token in fragment.split(separator: "/", omittingEmptySubsequences: false).dropFirst() {
      let key = String(token.replacing("~1", with: "/").replacing("~0", with: "~"))
      let inner: JSONValue?
      switch value {
      case .object(let object): inner = object[key]
      case .array(let items): inner = Int(key).flatMap { items.indices.contains($0) ? items[$0] : nil }
      default: inner = nil
      }
      guard let inner else { throw SchemaError(path, "$ref names \"\(reference)\", which is not in this schema") }
      value = inner
    }
    let index = subschemas.count
    try add(
      value, path: target, base: subschemas[resource].base, isOldDraft: subschemas[resource].isOldDraft, depth: 0)
    return SchemaLiteral(index)
  }
}
