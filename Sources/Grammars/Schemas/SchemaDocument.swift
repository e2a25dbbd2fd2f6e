import Formats

/// The subschemas of a JSON Schema document, found by position and by reference.
struct SchemaDocument {
  /// A subschema.
  struct Subschema {
    let value: JSONValue
    /// Its JSON pointer with "#" before it, for messages: long keys and long pointers are shortened.
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
  private var children: [Position: Int] = [:]
  private var indexOfURI: [String: Int] = [:]
  /// How many schemas have each `$dynamicAnchor`. A reference to one that is there once has no other target.
  private var dynamicAnchors: [String: Int] = [:]
  /// How many schemas have `$recursiveAnchor: true`.
  private var recursiveAnchors = 0
  private let budget: CompilationBudget

  /// Where a subschema is.
  private enum Position: Hashable {
    /// The value of a keyword in another subschema, or with a token one of the list or the map that is the value.
    case child(of: Int, keyword: String, token: String?)
    /// At a JSON pointer below another subschema where only references expect a schema.
    case below(Int, pointer: Substring)
  }

  /// Finds every subschema of a document.
  init(_ document: JSONValue, _ budget: CompilationBudget) throws(SchemaError) {
    self.budget = budget
    subschemas = [Subschema(value: false, path: "false", base: "", isOldDraft: false)]
    try add(document, path: "#", base: "", isOldDraft: false, depth: 0)
    indexOfURI[""] = indexOfURI[""] ?? 1
  }

  /// The subschema that is a literal's.
  subscript(literal: SchemaLiteral) -> Subschema { subschemas[literal.schema] }

  /// The subschema that is a keyword's value, or with a token one of the value's.
  func child(_ schema: Int, _ keyword: String, _ token: String? = nil) throws(SchemaError) -> SchemaLiteral {
    if let index = children[.child(of: schema, keyword: keyword, token: token)] { return SchemaLiteral(index) }
    var path = Self.path(subschemas[schema].path, keyword)
    if let token { path = Self.path(path, token) }
    throw SchemaError(path, "a schema is an object or a boolean")
  }

  /// Adds a subschema that a value satisfies if it satisfies one of others.
  /// - Parameter literals: all positive
  mutating func either(_ literals: [SchemaLiteral], path: String) -> SchemaLiteral {
    let index = subschemas.count
    let value: JSONValue = ["anyOf": .array(Array(repeating: true, count: literals.count))]
    subschemas.append(Subschema(value: value, path: path, base: "", isOldDraft: false))
    for (position, literal) in literals.enumerated() {
      children[.child(of: index, keyword: "anyOf", token: String(position))] = literal.schema
    }
    return SchemaLiteral(index)
  }

  /// Whether the document names a draft.
  func isOfDraft(_ draft: String) -> Bool {
    self[root].value.object?["$schema"]?.string?.contains("draft/" + draft) == true
  }

  private static let longestToken = 100
  private static let longestPath = 400

  /// The path for messages of what a token names below another path.
  static func path(_ path: String, _ token: String) -> String {
    let isLong = token.utf8.count > longestToken
    let below = path + "/" + escape(isLong ? String(token.unicodeScalars.prefix(longestToken / 2)) + "…" : token)
    if below.utf8.count <= longestPath { return below }
    return String(below.unicodeScalars.prefix(longestPath / 4)) + "…"
      + String(below.unicodeScalars.suffix(longestPath / 8))
  }

  /// What a token is in a JSON pointer.
  private static func escape(_ token: String) -> String {
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
    try budget.spend(4 + path.utf8.count / 16, at: path)
    guard depth <= Self.deepest else { throw SchemaError(path, "schemas are nested more than \(Self.deepest) deep") }
    guard subschemas.count < Self.mostSubschemas else {
      throw SchemaError(path, "there are more than \(Self.mostSubschemas) subschemas")
    }
    var (base, isOldDraft) = (base, isOldDraft)
    if let draft = value.object?["$schema"]?.string {
      try budget.spend(4 * draft.utf8.count, at: path + "/$schema")
      guard Self.drafts.contains(where: { draft.contains("json-schema.org/" + $0) }) else {
        throw SchemaError(path + "/$schema", "$schema \"\(draft.prefix(200))\" is not supported")
      }
      isOldDraft = ["draft-07", "draft-06", "draft-05", "draft-04"].contains { draft.contains($0) }
    }
    let index = subschemas.count
    if let object = value.object, !(isOldDraft && object["$ref"] != nil) {
      if let id = object["$id"]?.string ?? object["id"]?.string {
        try budget.spend(id.utf8.count + base.utf8.count, at: path + "/$id")
        if id.hasPrefix("#") {
          indexOfURI[base + id] = index
        } else {
          base = URIReference.resolve(id, against: base)
          if base.hasSuffix("#") { base.removeLast() }
          indexOfURI[base] = index
        }
      }
      for keyword in ["$anchor", "$dynamicAnchor"] {
        guard let anchor = object[keyword]?.string else { continue }
        try budget.spend((anchor.utf8.count + base.utf8.count) / 16, at: path + "/" + keyword)
        indexOfURI[base + "#" + anchor] = index
        if keyword == "$dynamicAnchor" { dynamicAnchors[anchor, default: 0] += 1 }
      }
      if object["$recursiveAnchor"] == true { recursiveAnchors += 1 }
    }
    subschemas.append(Subschema(value: value, path: path, base: base, isOldDraft: isOldDraft))
    func addChild(
      _ value: JSONValue, _ keyword: String, _ token: String? = nil, in document: inout SchemaDocument
    ) throws(SchemaError) {
      var below = Self.path(path, keyword)
      if let token { below = Self.path(below, token) }
      document.children[.child(of: index, keyword: keyword, token: token)] = document.subschemas.count
      try document.add(value, path: below, base: base, isOldDraft: isOldDraft, depth: depth + 1)
    }
    for (keyword, inner) in value.object?.pairs ?? [] {
      if let list = inner.array, Self.withArray.contains(keyword) {
        for (position, item) in list.enumerated() { try addChild(item, keyword, String(position), in: &self) }
      } else if let map = inner.object, Self.withMap.contains(keyword) {
        for (key, item) in map.pairs where item.array == nil { try addChild(item, keyword, key, in: &self) }
      } else if Self.withSchema.contains(keyword) {
        try addChild(inner, keyword, in: &self)
      }
    }
  }

  // MARK: references

  /// The subschema that a reference names.
  /// - Parameter keyword: what has the reference, for messages
  mutating func resolve(
    _ reference: String, from schema: Int, keyword: String = "$ref"
  ) throws(SchemaError) -> SchemaLiteral {
    let path = subschemas[schema].path + "/" + keyword
    let base = subschemas[schema].base
    try budget.spend(4 + reference.utf8.count + (reference.hasPrefix("#") ? 0 : base.utf8.count), at: path)
    let parts = reference.split(separator: "#", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    let uri = parts[0].isEmpty ? base : URIReference.resolve(parts[0], against: base)
    let missing = SchemaError(path, "\(keyword) names \"\(reference.prefix(200))\", which is not in this schema")
    guard let resource = indexOfURI[uri] ?? (parts[0].isEmpty ? 1 : nil) else { throw missing }
    guard parts.count > 1, !parts[1].isEmpty else { return SchemaLiteral(resource) }
    guard let fragment = URIReference.percentDecoded(parts[1]) else {
      throw SchemaError(path, "\(keyword) \"\(reference.prefix(200))\" is not a valid URI reference")
    }
    try budget.spend(uri.utf8.count / 16, at: path)
    if let anchored = indexOfURI[uri + "#" + fragment] { return SchemaLiteral(anchored) }
    guard fragment.hasPrefix("/"), let target = try find(fragment, below: resource) else { throw missing }
    return target
  }

  /// Whether a dynamic reference to a subschema may mean another one, depending on the schemas that lead to it.
  func isAmbiguous(_ keyword: String, _ reference: String, _ target: SchemaLiteral) -> Bool {
    let object = self[target].value.object
    if keyword == "$recursiveRef" { return object?["$recursiveAnchor"] == true && recursiveAnchors > 1 }
    guard let hash = reference.firstIndex(of: "#") else { return false }
    let fragment = URIReference.percentDecoded(String(reference[reference.index(after: hash)...])) ?? ""
    return object?["$dynamicAnchor"]?.string == fragment && dynamicAnchors[fragment, default: 0] > 1
  }

  /// The subschema at a JSON pointer. One that is where no keyword expects a schema is added.
  private mutating func find(_ pointer: String, below resource: Int) throws(SchemaError) -> SchemaLiteral? {
    let tokens = pointer.split(separator: "/", omittingEmptySubsequences: false).dropFirst()
    func unescaped(_ token: Substring) -> String {
      String(token.replacing("~1", with: "/").replacing("~0", with: "~"))
    }
    var known = resource
    var value = subschemas[resource].value
    /// Where the pointer goes on below `known`.
    var start = pointer.startIndex
    var keys: [String] = []
    for token in tokens {
      let key = unescaped(token)
      let inner: JSONValue?
      switch value {
      case .object(let object): inner = object[key]
      case .array(let items):
        let index = Int(key).flatMap { String($0) == key && items.indices.contains($0) ? $0 : nil }
        inner = index.map { items[$0] }
      default: inner = nil
      }
      guard let inner else { return nil }
      value = inner
      keys.append(key)
      let rest = pointer[start..<token.endIndex]
      try budget.spend(1 + rest.utf8.count / 16, at: subschemas[resource].path)
      let position =
        keys.count <= 2 ? children[.child(of: known, keyword: keys[0], token: keys.count == 2 ? keys[1] : nil)] : nil
      if let next = position ?? children[.below(known, pointer: rest)] {
        known = next
        start = token.endIndex
        keys = []
      }
    }
    if keys.isEmpty { return SchemaLiteral(known) }
    let index = subschemas.count
    let parent = subschemas[known]
    children[.below(known, pointer: pointer[start...])] = index
    var path = parent.path
    for key in keys { path = Self.path(path, key) }
    try add(value, path: path, base: parent.base, isOldDraft: parent.isOldDraft, depth: 0)
    return SchemaLiteral(index)
  }
}
