import Formats
import Logging
import Model
import Testing

@testable import Serve

/// The OpenAPI document has every field that bodies can have, and every operation has a schema. That it has every route is
/// checked against a running server.
@Suite struct OpenAPITests {
  @Test func everyFieldHasASchema() {
    for (route, operation) in APIOperation.all {
      guard case .json(let catalog, let required) = operation.body else { continue }
      for field in catalog.honoured { #expect(FieldSchemas.schema(of: field, in: route) != nil, "\(route): \(field)") }
      #expect(catalog.honoured.isSuperset(of: required), "\(route)")
    }
  }

  @Test func everyReplyHasASchema() {
    let names = Set(ReplySchemas.all.map(\.key))
    #expect(names.count == ReplySchemas.all.count)
    for (route, operation) in APIOperation.all {
      switch operation.reply {
      case .json(let name): #expect(names.contains(name), "\(route)")
      case .stream(let name, let events): #expect(names.isSuperset(of: [name, events]), "\(route)")
      case .bytes: break
      }
    }
  }

  @Test func aRouteIsDescribedAsTheRouterHasIt() throws {
    let names = UnknownNameLog(Logger(label: "test"))
    var router = Router(apiKey: nil, unknownNames: names)
    router.on("GET", "health", isOpen: true) { _ in }
    router.on("GET", "v1/models/{id...}", query: ["limit"]) { _ in }
    #expect(
      router.descriptions == [
        RouteDescription(method: "GET", path: "/health", captures: [], queryKeys: [], isOpen: true),
        RouteDescription(method: "GET", path: "/v1/models/{id}", captures: ["id"], queryKeys: ["limit"], isOpen: false),
      ])
    let document = OpenAPIDocument(router.descriptions).json.object
    let paths = try #require(document?["paths"]?.object)
    #expect(paths.keys == ["/health", "/v1/models/{id}"])
    let health = paths["/health"]?.object?["get"]?.object
    #expect(health?["security"] == [] && health?["operationId"] == "get_health")
    let parameters = paths["/v1/models/{id}"]?.object?["get"]?.object?["parameters"]?.array
    #expect(parameters?.map { $0.object?["in"] } == ["path", "query"])
  }

  @Test func aBodyHasItsFields() throws {
    let route = RouteDescription(
      method: "POST", path: "/v1/completions", captures: [], queryKeys: ["adapter"], isOpen: false)
    let body = OpenAPIDocument([route]).json.object?["paths"]?.object?[route.path]?.object?["post"]?.object?[
      "requestBody"]
    let schema = try #require(
      body?.object?["content"]?.object?["application/json"]?.object?["schema"]?.object)
    let catalog = FieldCatalog.completions
    #expect(Set(schema["properties"]?.object?.keys ?? []) == catalog.honoured.union(catalog.accepted))
    #expect(schema["required"] == ["prompt"])
    #expect(Set(schema["x-refused"]?.array?.compactMap(\.string) ?? []) == Set(catalog.refused.keys))
  }
}
