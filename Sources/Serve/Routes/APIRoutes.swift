import Foundation
public import Logging
import Model

/// The route table.
public struct APIRoutes: Sendable {
  private let context: ServerContext
  private let apiKey: String?
  private let logger: Logger
  /// Where adapters are read, so that neither the loop nor the engine waits for a disk.
  private let loading = DispatchQueue(label: "adapters")
  /// Where long prompts are tokenised.
  private let preparation = DispatchQueue(label: "prompts", attributes: .concurrent)
  private static let longBody = 32 << 10

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
    router.on("POST", "v1/chat/completions") { [self] in chat($0) }
    router.on("POST", "tokenize") { [self] in tokenize($0) }
    router.on("POST", "detokenize") { [self] in detokenize($0) }
    router.on("GET", "v1/models") { [self] in listModels($0) }
    router.on("GET", "v1/models/{id...}") { [self] (request) throws(APIError) in try showModel(request) }
    router.on("POST", "v1/load_lora_adapter") { [self] in loadAdapter($0) }
    router.on("POST", "v1/unload_lora_adapter") { [self] in unloadAdapter($0) }
    return router
  }

  private func health(_ request: RoutedRequest) {
    request.exchange.respond(json: ["status": "ok"])
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
      try answer(chat.plan, chat.shape, model: chat.model, request.exchange)
    }
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
    let (adapters, name) = try context.selection(model: model, query: exchange.request.queryItems)
    AnswerRun(
      plan, shape: shape, model: name, fingerprint: context.fingerprint(adapters), exchange: exchange,
      context: context
    ).start(adapters: adapters)
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
    let list = [baseJSON] + context.adapters.all.map(modelJSON)
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

  private func modelJSON(_ record: AdapterStore.Record) -> JSONValue {
    [
      "id": .string(record.name), "object": "model", "created": .integer(record.loadedAt), "owned_by": "graft",
      "parent": .string(context.servedModelName), "root": .string(record.source.path),
      "max_model_len": .integer(context.contextLength),
    ]
  }

  // MARK: adapters

  private func loadAdapter(_ request: RoutedRequest) {
    let exchange = request.exchange
    exchange.collectJSON(limit: 1 << 20) { [self] (fields) throws(APIError) in
      let name = try required(fields, "lora_name")
      let path = try required(fields, "lora_path")
      loading.async { [self] in
        let result = Result { () throws(AdapterStore.Failure) in try context.adapters.load(name: name, path: path) }
        exchange.loop.execute { [self] in
          switch result {
          case .success(let record):
            logger.info("adapter loaded", metadata: ["name": .string(name), "rank": "\(record.adapter.rank)"])
            exchange.respond(json: loadedJSON(record))
          case .failure(let failure): exchange.respond(Self.error(failure))
          }
        }
      }
    }
  }

  private func unloadAdapter(_ request: RoutedRequest) {
    request.exchange.collectJSON(limit: 1 << 20) { [self] (fields) throws(APIError) in
      let name = try required(fields, "lora_name")
      do throws(AdapterStore.Failure) { try context.adapters.unload(name: name) } catch { throw Self.error(error) }
      logger.info("adapter unloaded", metadata: ["name": .string(name)])
      request.exchange.respond(json: ["name": .string(name), "status": "unloaded"])
    }
  }

  private func required(_ fields: RequestFields, _ name: String) throws(APIError) -> String {
    guard let value = try fields.string(name), !value.isEmpty else {
      throw .invalid("'\(name)' is missing", param: name, code: "missing_required_parameter")
    }
    return value
  }

  private func loadedJSON(_ record: AdapterStore.Record) -> JSONValue {
    [
      "name": .string(record.name), "version": 1, "rank": .integer(record.adapter.rank),
      "targets": .array(record.adapter.targets.map { .string($0.shortName) }),
      "bytes": .integer(record.adapter.bytes),
    ]
  }

  private static func error(_ failure: AdapterStore.Failure) -> APIError {
    switch failure.kind {
    case .unknownName: .invalid(failure.description, param: "lora_name", code: "model_not_found", status: 404)
    case .badName: .invalid(failure.description, param: "lora_name", code: "invalid_value")
    case .outsideFolder, .noFolder: .invalid(failure.description, param: "lora_path", code: "invalid_value")
    case .refused: .invalid(failure.description, param: "lora_path", code: "invalid_adapter")
    }
  }
}

extension APIRoutes {
  /// Puts the HTTP layer's own errors into the envelope of all others.
  public static let errorBody: HTTPConfiguration.ErrorBody = { status, message in
    ("application/json", APIError.plain(status: status, message: message).json.encoded)
  }
}
