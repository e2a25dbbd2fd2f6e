import Formats

/// The OpenAPI 3.1 document of the API. It is made of the router's own table, the catalogs of fields and the schemas beside
/// this file, so that a route or a field has one owner.
struct OpenAPIDocument {
  private typealias Pair = (key: String, value: JSONValue)

  private let routes: [RouteDescription]
  private let fields: FieldSchemas

  /// The document's own route.
  static let route = RouteDescription(
    method: "GET", path: "/openapi.json", captures: [], queryKeys: [], isOpen: false)

  init(_ routes: [RouteDescription], limits: ModelLimits = ModelLimits()) {
    self.routes = routes
    fields = FieldSchemas(limits)
  }

  var json: JSONValue {
    var paths: [(path: String, operations: [Pair])] = []
    for route in routes {
      let index = paths.firstIndex { $0.path == route.path } ?? paths.endIndex
      if index == paths.endIndex { paths.append((route.path, [])) }
      paths[index].operations.append((route.method.lowercased(), operation(route)))
    }
    return [
      "openapi": "3.1.0",
      "info": [
        "title": "Graft", "version": .string(graftVersion),
        "description":
          "Inference and fine-tuning of one base with many LoRA adapters, as OpenAI's API. docs/api.md has more.",
        "license": ["name": "Apache-2.0", "identifier": "Apache-2.0"],
      ],
      "paths": .object(
        JSONObject(keepingFirst: paths.map { ($0.path, .object(JSONObject(keepingFirst: $0.operations))) })),
      "components": [
        "schemas": .object(JSONObject(keepingFirst: BodySchemas.all + ReplySchemas.all)),
        "securitySchemes": ["key": ["type": "http", "scheme": "bearer"]],
      ],
      "security": [["key": []], [:]],
    ]
  }

  private func operation(_ route: RouteDescription) -> JSONValue {
    let operation = APIOperation.all[route.name]
    var pairs: [Pair] = [
      ("operationId", .string(route.identifier)), ("summary", .string(operation?.summary ?? route.name)),
    ]
    let parameters =
      route.captures.map(Self.pathParameter) + route.queryKeys.sorted().map { Self.queryParameter($0, operation) }
    if !parameters.isEmpty { pairs.append(("parameters", .array(parameters))) }
    if route.isOpen { pairs.append(("security", [])) }
    if let body = operation.flatMap({ body($0.body, route.name) }) { pairs.append(("requestBody", body)) }
    let error: JSONValue = [
      "description": "The request failed", "content": ["application/json": ["schema": JSONSchema.reference("Error")]],
    ]
    pairs.append(("responses", ["200": Self.reply(operation?.reply, links(of: route)), "4XX": error, "5XX": error]))
    return .object(JSONObject(keepingFirst: pairs))
  }

  private static func pathParameter(_ name: String) -> JSONValue {
    ["name": .string(name), "in": "path", "required": true, "schema": ["type": "string", "minLength": 1]]
  }

  private static func queryParameter(_ name: String, _ operation: APIOperation?) -> JSONValue {
    let schema: JSONValue =
      switch name {
      case "limit": JSONSchema.integer(1...(operation?.maximumPage ?? 100))
      case "version": JSONSchema.integer(1...Int(Int32.max))
      case "format": ["enum": .array(AdapterForm.allCases.map { .string($0.rawValue) })]
      case "order": JSONSchema.oneOf("asc", "desc")
      case "stream":
        if case .stream? = operation?.reply { JSONSchema.boolean } else { JSONSchema.constant(false) }
      case "checkpoints": JSONSchema.boolean
      case "metadata": JSONSchema.map(of: JSONSchema.string)
      case "adapter": JSONSchema.string(0...AdapterSelector.maximumBytes)
      default: JSONSchema.string
      }
    var pairs: [Pair] = [("name", .string(name)), ("in", "query"), ("schema", schema)]
    if name == "metadata" { pairs += [("style", "deepObject"), ("explode", true)] }
    return .object(JSONObject(keepingFirst: pairs))
  }

  // MARK: bodies

  private func body(_ body: APIOperation.Body, _ route: String) -> JSONValue? {
    switch body {
    case .none: return nil
    case .json(let catalog, let required):
      return ["required": true, "content": ["application/json": json(catalog, required, route)]]
    case .form(let required, let optional):
      return ["required": true, "content": ["multipart/form-data": ["schema": form(required, optional)]]]
    case .formsOrJSON(let forms, let optional, let catalog, let requiredFields):
      let schemas = forms.map { form($0, optional) }
      return [
        "required": true,
        "content": [
          "multipart/form-data": ["schema": ["oneOf": .array(schemas)]],
          "application/json": json(catalog, requiredFields, route),
        ],
      ]
    }
  }

  private func json(_ catalog: FieldCatalog, _ required: [String], _ route: String) -> JSONValue {
    ["schema": schema(catalog, required: required, route)]
  }

  private func form(_ required: [String], _ optional: [String]) -> JSONValue {
    let parts: [Pair] = (required + optional).map { name in
      switch name {
      case "purpose": (name, ["enum": .array(FileUpload.purposes.map { .string($0) })])
      case "pinned": (name, JSONSchema.oneOf("true", "false"))
      default: (name, ["type": "string", "format": "binary"])
      }
    }
    return [
      "type": "object", "required": .array(required.map { .string($0) }),
      "properties": .object(JSONObject(keepingFirst: parts)), "additionalProperties": false,
    ]
  }

  /// A body's object. Fields that are refused stand in an extension: any of their values but a neutral one is an error.
  private func schema(_ catalog: FieldCatalog, required: [String], _ route: String) -> JSONValue {
    let honoured: [Pair] = catalog.honoured.sorted().map { name in
      let schema = fields.schema(of: name, in: route) ?? JSONSchema.any
      // A missing model is the base, and null is an error. What is required cannot be null either.
      return (name, name == "model" || required.contains(name) ? schema : JSONSchema.nullable(schema))
    }
    let accepted: [Pair] = catalog.accepted.sorted().map { ($0, ["description": "Accepted, and without effect."]) }
    var pairs: [Pair] = [
      ("type", "object"), ("required", .array(required.map { .string($0) })),
      ("properties", .object(JSONObject(keepingFirst: honoured + accepted))),
      ("x-refused", .array(catalog.refused.keys.sorted().map { .string($0) })),
    ]
    let rules = FieldSchemas.rules(route)
    if !rules.isEmpty { pairs.append(("allOf", .array(rules))) }
    return .object(JSONObject(keepingFirst: pairs))
  }

  // MARK: replies

  /// The operations that take the id of what a route has made.
  private func links(of route: RouteDescription) -> [Pair] {
    guard route.method == "POST" else { return [] }
    return routes.filter { $0.captures == ["id"] && $0.path.hasPrefix(route.path + "/{id}") }.map { other in
      (
        other.identifier,
        ["operationId": .string(other.identifier), "parameters": ["id": "$response.body#/id"]]
      )
    }
  }

  private static func reply(_ reply: APIOperation.Reply?, _ links: [Pair]) -> JSONValue {
    func json(_ name: String) -> JSONValue { ["schema": JSONSchema.reference(name)] }
    let content: JSONValue =
      switch reply {
      case .json(let name): ["application/json": json(name)]
      case .stream(let name, let events):
        [
          "application/json": json(name),
          "text/event-stream": [
            "schema": [
              "type": "object", "description": "One server-sent event; the last may have the data [DONE].",
              "required": ["data"],
              "properties": [
                "event": JSONSchema.string,
                "data": [
                  "type": "string", "contentMediaType": "application/json",
                  "contentSchema": JSONSchema.reference(events),
                ],
              ],
            ]
          ],
        ]
      case .bytes(let types): .object(JSONObject(keepingFirst: types.map { (key: $0, value: [:]) }))
      case nil: [:]
      }
    var pairs: [Pair] = [("description", "The request succeeded"), ("content", content)]
    if !links.isEmpty { pairs.append(("links", .object(JSONObject(keepingFirst: links)))) }
    return .object(JSONObject(keepingFirst: pairs))
  }
}

/// A route as the router has it.
struct RouteDescription: Sendable, Equatable {
  var method: String
  /// With captures as `{name}`, whether they match one segment or all that follow.
  var path: String
  var captures: [String]
  var queryKeys: Set<String>
  /// Whether it requires no API key.
  var isOpen: Bool

  var name: String { "\(method) \(path)" }

  /// A name made of the method and the path's words.
  var identifier: String {
    ([method.lowercased()] + path.split { "/{}.".contains($0) }.map(String.init)).joined(separator: "_")
  }
}
