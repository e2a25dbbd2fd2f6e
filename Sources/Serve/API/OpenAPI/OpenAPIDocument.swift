import Formats

/// The OpenAPI 3.1 document of the API. It is made of the router's own table, the catalogs of fields and the schemas beside
/// this file, so that a route or a field has one owner.
struct OpenAPIDocument {
  private typealias Pair = (key: String, value: JSONValue)

  private let routes: [RouteDescription]

  /// The document's own route.
  static let route = RouteDescription(
    method: "GET", path: "/openapi.json", captures: [], queryKeys: [], isOpen: false)

  init(_ routes: [RouteDescription]) { self.routes = routes }

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
        "schemas": .object(JSONObject(keepingFirst: ReplySchemas.all)),
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
    let parameters = route.captures.map(Self.pathParameter) + route.queryKeys.sorted().map(Self.queryParameter)
    if !parameters.isEmpty { pairs.append(("parameters", .array(parameters))) }
    if route.isOpen { pairs.append(("security", [])) }
    if let body = operation.flatMap({ Self.body($0.body, route.name) }) { pairs.append(("requestBody", body)) }
    let error: JSONValue = [
      "description": "The request failed", "content": ["application/json": ["schema": JSONSchema.reference("Error")]],
    ]
    pairs.append(("responses", ["200": Self.reply(operation?.reply), "4XX": error, "5XX": error]))
    return .object(JSONObject(keepingFirst: pairs))
  }

  private static func pathParameter(_ name: String) -> JSONValue {
    ["name": .string(name), "in": "path", "required": true, "schema": ["type": "string", "minLength": 1]]
  }

  private static func queryParameter(_ name: String) -> JSONValue {
    let schema: JSONValue =
      switch name {
      case "limit": JSONSchema.integer(1...100)
      case "version": JSONSchema.integer(1...Int(Int32.max))
      case "order": JSONSchema.oneOf("asc", "desc")
      case "stream", "checkpoints": JSONSchema.boolean
      case "metadata": JSONSchema.map(of: JSONSchema.string)
      default: JSONSchema.string
      }
    var pairs: [Pair] = [("name", .string(name)), ("in", "query"), ("schema", schema)]
    if name == "metadata" { pairs += [("style", "deepObject"), ("explode", true)] }
    return .object(JSONObject(keepingFirst: pairs))
  }

  // MARK: bodies

  private static func body(_ body: APIOperation.Body, _ route: String) -> JSONValue? {
    switch body {
    case .none: return nil
    case .json(let catalog, let required):
      return [
        "required": true, "content": ["application/json": ["schema": schema(catalog, required: required, route)]],
      ]
    case .form(let required, let optional):
      let parts: [Pair] = (required + optional).map { name in
        (name, name == "purpose" || name == "pinned" ? JSONSchema.string : ["type": "string", "format": "binary"])
      }
      let schema: JSONValue = [
        "type": "object", "required": .array(required.map { .string($0) }),
        "properties": .object(JSONObject(keepingFirst: parts)),
      ]
      return ["required": true, "content": ["multipart/form-data": ["schema": schema]]]
    }
  }

  /// A body's object. Fields that are refused stand in an extension: any of their values but a neutral one is an error.
  private static func schema(_ catalog: FieldCatalog, required: [String], _ route: String) -> JSONValue {
    let honoured: [Pair] = catalog.honoured.sorted().map { name in
      let schema = FieldSchemas.schema(of: name, in: route) ?? JSONSchema.any
      // A missing model is the base, and null is an error. What is required cannot be null either.
      return (name, name == "model" || required.contains(name) ? schema : JSONSchema.nullable(schema))
    }
    let accepted: [Pair] = catalog.accepted.sorted().map { ($0, ["description": "Accepted, and without effect."]) }
    return [
      "type": "object", "required": .array(required.map { .string($0) }),
      "properties": .object(JSONObject(keepingFirst: honoured + accepted)),
      "x-refused": .array(catalog.refused.keys.sorted().map { .string($0) }),
    ]
  }

  // MARK: replies

  private static func reply(_ reply: APIOperation.Reply?) -> JSONValue {
    func json(_ name: String) -> JSONValue { ["schema": JSONSchema.reference(name)] }
    let content: JSONValue =
      switch reply {
      case .json(let name): ["application/json": json(name)]
      case .stream(let name, let events):
        [
          "application/json": json(name),
          "text/event-stream": [
            "schema": [
              "type": "string", "description": .string("Server-sent events, each with a \(events) as its data."),
            ]
          ],
        ]
      case .bytes(let type): .object(JSONObject(keepingFirst: [(type, [:])]))
      case nil: [:]
      }
    return ["description": "The request succeeded", "content": content]
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
