import Formats
import Foundation
import Logging
import Model
import TestSupport
import Testing

@testable import Serve

/// The OpenAPI document has every route and every field that bodies can have, and every operation has a schema.
@Suite struct OpenAPITests {
  /// All routes on an engine that is not asked anything.
  private func routes(_ setting: AnswerSetting) throws -> APIRoutes {
    let (context, logger) = (setting.context, Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    let folder = try DataFolder(setting.model.root.appending(path: "jobs"))
    let database = try MetadataDatabase(folder)
    let files = try FileStore(dataFolder: folder, database: database, sizeLimit: 1 << 20)
    let jobs = try FineTuningService(
      dataFolder: folder,
      environment: .init(
        engine: context.engine, compute: context.engine.compute, base: context.base, baseName: "tiny",
        tokenizer: context.tokenizer, chat: context.chat, adapters: context.adapters, files: files, database: database,
        limits: .init(), logger: logger))
    let batches = try BatchService(
      dataFolder: folder, context: context, files: files, loop: setting.loop, logger: logger)
    return APIRoutes(context: context, fineTuning: jobs, batches: batches, apiKey: nil, logger: logger)
  }

  /// What the server answers, what the document has and what is described are the same routes. The console is no part of the API,
  /// and `/ready` is answered before the router.
  @Test func theDocumentHasAllRoutes() throws {
    let setting = try AnswerSetting()
    let routes = try routes(setting)
    let server = try HTTPTestServer(handler: routes.handler)
    let document = try JSONValue.parse(server.client().get("/openapi.json").text.utf8, subject: "document")
    let paths = try #require(document.object?["paths"]?.object)
    let documented = paths.pairs.flatMap { path in
      (path.value.object?.keys ?? []).map { "\($0.uppercased()) \(path.key)" }
    }
    let served = Set(routes.router.descriptions.map(\.name))
      .subtracting(["GET /", "GET /console/{file}"]).union(["GET /ready"])
    #expect(Set(documented) == served && documented.count == served.count)
    #expect(Set(APIOperation.all.keys) == served)
  }

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
