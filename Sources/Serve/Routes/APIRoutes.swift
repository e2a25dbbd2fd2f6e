import Foundation
public import Logging
import Model

/// The route table.
public struct APIRoutes: Sendable {
  private let context: ServerContext
  private let fineTuning: FineTuningService
  private let apiKey: String?
  private let logger: Logger
  /// Where long prompts are tokenised.
  private let preparation = DispatchQueue(label: "prompts", attributes: .concurrent)
  private static let longBody = 32 << 10

  public init(context: ServerContext, fineTuning: FineTuningService, apiKey: String?, logger: Logger) {
    self.context = context
    self.fineTuning = fineTuning
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
    router.on("POST", "v1/chat/completions") { [self] in chat($0) }
    router.on("POST", "tokenize") { [self] in tokenize($0) }
    router.on("POST", "detokenize") { [self] in detokenize($0) }
    router.on("GET", "metrics") { [self] in metrics($0) }
    router.on("GET", "v1/models") { [self] in listModels($0) }
    router.on("GET", "v1/models/{id...}") { [self] (request) throws(APIError) in try showModel(request) }
    AdapterRoutes(store: context.adapters, logger: logger).add(to: &router)
    FileRoutes(store: fineTuning.environment.files, logger: logger).add(to: &router)
    FineTuningRoutes(service: fineTuning, servedModelName: context.servedModelName).add(to: &router)
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

  // MARK: completions and chats

  private func complete(_ request: RoutedRequest) {
    prepare(request.exchange) { [context] (fields) throws(APIError) in
      try CompletionRequest(fields, tokenizer: context.tokenizer, contextLength: context.contextLength)
    } then: { [self] (completion) throws(APIError) in
      try answer(completion.plan, CompletionShape(), model: completion.model, request.exchange)
    }
  }

  private func chat(_ request: RoutedRequest) {
    prepare(request.exchange) { [context] (fields) throws(APIError) in
      try ChatRequest(fields, context: context)
    } then: { [self] (chat) throws(APIError) in
      tell(chat.warnings, request.exchange)
      try answer(chat.plan, chat.shape, model: chat.model, request.exchange)
    }
  }

  /// Says in the answer's header and in the log what the model does not get to see.
  private func tell(_ warnings: [String], _ exchange: HTTPExchange) {
    if warnings.isEmpty { return }
    exchange.setHeader("x-graft-warning", warnings.joined(separator: " "))
    for warning in warnings { logger.warning("\(warning)") }
  }

  /// Reads the body and makes of it what is to be done: on the loop if it is short, else on a queue, so that a long
  /// prompt's tokens hold up nobody.
  private func prepare<Value: Sendable>(
    _ exchange: HTTPExchange, _ make: @escaping @Sendable (RequestFields) throws(APIError) -> Value,
    then: @escaping (Value) throws(APIError) -> Void
  ) {
    exchange.collectJSON { [preparation] (fields) throws(APIError) in
      guard fields.byteCount > Self.longBody else { return try then(try make(fields)) }
      // Called on the loop alone.
      nonisolated(unsafe) let then = then
      preparation.async {
        let result = Result { () throws(APIError) in try make(fields) }
        exchange.loop.execute {
          do throws(APIError) { try then(try result.get()) } catch { exchange.respond(error) }
        }
      }
    }
  }

  private func answer(
    _ plan: GenerationPlan, _ shape: any AnswerShape, model: String?, _ exchange: HTTPExchange
  ) throws(APIError) {
    try context.withAdapters(of: exchange, model: model) { [context, apiKey] adapters, name in
      AnswerRun(
        plan, shape: shape, model: name, fingerprint: context.fingerprint(adapters), exchange: exchange,
        context: context
      ).start(adapters: adapters, client: exchange.clientName(isKeyed: apiKey != nil))
    }
  }

  private func tokenize(_ request: RoutedRequest) {
    prepare(request.exchange) { [context] (fields) throws(APIError) in
      try TokenizeRoutes(context: context).tokenize(fields)
    } then: { (json) throws(APIError) in
      request.exchange.respond(json: json)
    }
  }

  private func detokenize(_ request: RoutedRequest) {
    prepare(request.exchange) { [context] (fields) throws(APIError) in
      try TokenizeRoutes(context: context).detokenize(fields)
    } then: { (json) throws(APIError) in
      request.exchange.respond(json: json)
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
