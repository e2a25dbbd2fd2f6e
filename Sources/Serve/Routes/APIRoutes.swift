import Foundation
public import Logging
import Model

/// The route table.
public struct APIRoutes: Sendable {
  private let context: ServerContext
  private let apiKey: String?
  private let logger: Logger

  public init(context: ServerContext, apiKey: String?, logger: Logger) {
    self.context = context
    self.apiKey = apiKey
    self.logger = logger
  }

  /// What the HTTP server calls, on the loop.
  public var handler: HTTPServer.Handler {
    // The routes capture nothing but this value, and run on the loop alone.
    nonisolated(unsafe) let router = router
    return { exchange in router.handle(exchange) }
  }

  private var router: Router {
    var router = Router(apiKey: apiKey)
    router.on("GET", "health", isOpen: true) { [self] in health($0) }
    router.on("POST", "v1/completions") { [self] (request) throws(APIError) in complete(request) }
    router.on("GET", "metrics") { [self] in metrics($0) }
    router.on("GET", "v1/models") { [self] in listModels($0) }
    router.on("GET", "v1/models/{id...}") { [self] (request) throws(APIError) in try showModel(request) }
    AdapterRoutes(store: context.adapters, logger: logger).add(to: &router)
    return router
  }

  private func health(_ request: RoutedRequest) {
    request.exchange.respond(json: ["status": "ok"])
  }

  private func metrics(_ request: RoutedRequest) {
    let loaded = context.adapters.memoryInUse
    MetricsRoute(engine: context.engine, adapterBytes: loaded.bytes, adapterCount: loaded.count)
      .answer(request.exchange)
  }

  // MARK: completions

  private func complete(_ request: RoutedRequest) {
    let exchange = request.exchange
    exchange.collectJSON { [self] (fields) throws(APIError) in
      let completion = try CompletionRequest(
        fields, tokenizer: context.tokenizer, contextLength: context.contextLength)
      try context.withAdapters(of: exchange, model: completion.model) { [self] adapters, name in
        CompletionRun(
          completion, model: name, exchange: exchange, engine: context.engine, tokenizer: context.tokenizer
        ).start(adapters: adapters, client: exchange.clientName(isKeyed: apiKey != nil))
      }
    }
  }

  // MARK: models

  private func listModels(_ request: RoutedRequest) {
    let list = [baseJSON] + context.adapters.served.map(modelJSON)
    request.exchange.respond(json: ["object": "list", "data": .array(list)])
  }

  private func showModel(_ request: RoutedRequest) throws(APIError) {
    let id = request.captures["id"] ?? ""
    if id == context.servedModelName || id == "base" { return request.exchange.respond(json: baseJSON) }
    guard let record = context.adapters[id] else { throw .modelNotFound(id, param: "model") }
    request.exchange.respond(json: modelJSON(record))
  }

  private var baseJSON: JSONValue {
    [
      "id": .string(context.servedModelName), "object": "model", "created": .integer(context.startedAt),
      "owned_by": "graft", "parent": .null, "root": .string(context.servedModelName),
      "max_model_len": .integer(context.contextLength),
    ]
  }

  private func modelJSON(_ record: AdapterRecord) -> JSONValue {
    let contents = context.adapters.contents.location(record.current?.contentHash ?? "").path
    return [
      "id": .string(record.name), "object": "model", "created": .integer(record.current?.createdAt ?? 0),
      "owned_by": "graft", "parent": .string(context.servedModelName),
      "root": .string(record.current?.source ?? contents),
      "max_model_len": .integer(context.contextLength),
    ]
  }
}

extension APIRoutes {
  /// Puts the HTTP layer's own errors into the envelope of all others.
  public static let errorBody: HTTPConfiguration.ErrorBody = { status, message in
    ("application/json", APIError.plain(status: status, message: message).json.encoded)
  }
}
