import Formats
import Foundation
public import Logging
import Model
import Tokenization

/// All routes of the API.
public struct APIRoutes: Sendable {
  private let context: ServerContext
  private let fineTuning: FineTuningService
  private let batches: BatchService
  private let apiKey: String?
  private let logger: Logger
  private let logsPrompts: Bool
  private let preparation = RequestPreparation()
  private let uploads = UploadService()
  private let pools = BlockingPools()
  private let unknownNames: UnknownNameLog

  /// - Parameters:
  ///   - apiKey: the Bearer token that requests must send; `nil` if none is needed
  ///   - logsPrompts: whether the text of every prompt is logged
  public init(
    context: ServerContext, fineTuning: FineTuningService, batches: BatchService, apiKey: String?, logger: Logger,
    logsPrompts: Bool = false
  ) {
    self.context = context
    self.fineTuning = fineTuning
    self.batches = batches
    self.apiKey = apiKey
    self.logger = logger
    self.logsPrompts = logsPrompts
    unknownNames = UnknownNameLog(logger)
  }

  /// Handles requests; called by the HTTP server on the loop.
  public var handler: HTTPServer.Handler {
    let router = router
    return { exchange in router.handle(exchange) }
  }

  /// The table of all routes, with the document that describes them.
  var router: Router {
    var router = Router(apiKey: apiKey, unknownNames: unknownNames)
    router.on("GET", "health", isOpen: true) { [self] in health($0) }
    router.on("GET", "version") { $0.exchange.respond(json: ["version": .string(graftVersion)]) }
    GenerationRoutes(
      context: context, preparation: preparation, unknownNames: unknownNames, logger: logger, logsPrompts: logsPrompts
    ).add(to: &router)
    router.on("POST", "tokenize", query: ["adapter"]) { [self] in tokenize($0) }
    router.on("POST", "detokenize", query: ["adapter"]) { [self] in detokenize($0) }
    router.on("GET", "tokenizer_info") { [context] in
      $0.exchange.respond(json: TokenizeRoutes.information(context.tokenizer))
    }
    router.on("GET", "metrics") { [self] in metrics($0) }
    ModelRoutes(context: context, pools: pools, logger: logger).add(to: &router)
    AdapterRoutes(
      store: context.adapters, base: context.base, preparation: preparation, uploads: uploads,
      unknownNames: unknownNames, pools: pools, logger: logger
    ).add(to: &router)
    FileRoutes(store: fineTuning.environment.files, logger: logger, uploads: uploads, pools: pools)
      .add(to: &router)
    FineTuningRoutes(
      service: fineTuning, servedModelName: context.servedModelName, preparation: preparation,
      unknownNames: unknownNames
    ).add(to: &router)
    ResponseRoutes(store: context.responses, pools: pools).add(to: &router)
    BatchRoutes(service: batches, preparation: preparation, unknownNames: unknownNames, pools: pools).add(to: &router)
    let limits = ModelLimits(
      contextLength: context.contextLength, vocabularySize: context.tokenizer.vocabularySize,
      hiddenSize: context.base.config.hiddenSize,
      minimumText: context.tokenizer.encode("", parsingSpecialTokens: true).isEmpty ? 1 : 0)
    let routes = [Readiness.route] + router.descriptions + [OpenAPIDocument.route]
    let document = OpenAPIDocument(routes, limits: limits).json.encoded
    router.on("GET", "openapi.json") { request in
      request.exchange.respond(status: 200, headers: ["Content-Type": "application/json"], body: document)
    }
    // After the document, which describes the API alone.
    ConsoleRoutes.add(to: &router)
    return router
  }

  /// How long the engine's thread may be busy with one iteration. After `health`, `/health` reports an error; after
  /// `readiness`, `/ready` does.
  static let maximumTurn = (health: Duration.seconds(60), readiness: Duration.seconds(5))

  /// Whether the engine's thread has come round within the time that `/health` allows. From any thread.
  public var isAlive: Bool { context.engine.turnAge < Self.maximumTurn.health }

  private func health(_ request: RoutedRequest) {
    guard isAlive else {
      let age = context.engine.turnAge.components.seconds
      return request.exchange.respond(.plain(status: 503, message: "The engine has not come round for \(age) s"))
    }
    request.exchange.respond(json: ["status": "ok"])
  }

  /// Why the server is not ready for more requests; `nil` if it is.
  public var unreadiness: String? {
    let age = context.engine.turnAge
    return age < Self.maximumTurn.readiness ? nil : "The engine has not come round for \(age.components.seconds) s"
  }

  private func metrics(_ request: RoutedRequest) {
    let loaded = context.adapters.memoryInUse
    MetricsRoute(engine: context.engine, adapterBytes: loaded.bytes, adapterCount: loaded.count)
      .answer(request.exchange)
  }

  private func tokenize(_ request: RoutedRequest) {
    convert(request, .chat, .tokenize) { (routes, fields) throws(APIError) in try routes.tokenize(fields) }
  }

  private func detokenize(_ request: RoutedRequest) {
    convert(request, .prompts, .detokenize) { (routes, fields) throws(APIError) in try routes.detokenize(fields) }
  }

  /// Answers with the JSON that `body` makes of the fields. The model that they name must exist, although it makes no
  /// difference.
  private func convert(
    _ request: RoutedRequest, _ limits: BodyLimits, _ catalog: FieldCatalog,
    _ body: @escaping @Sendable (TokenizeRoutes, RequestFields) throws(APIError) -> JSONValue
  ) {
    let head = request.exchange.request
    request.exchange.collectJSON(limits, preparation) { [self] (fields, abandonment) throws(APIError) in
      try catalog.check(fields, log: unknownNames, path: "/" + head.path.joined(separator: "/"))
      try context.checkSelection(try ModelFields(fields), query: head.queryItems)
      // Encoded here, because millions of tokens take long.
      return try body(TokenizeRoutes(context: context, abandonment: abandonment), fields).encoded
    } then: {
      request.exchange.respond(encoded: $0)
    }
  }
}

extension APIRoutes {
  /// Makes the HTTP layer's errors look like the API's.
  public static let errorBody: HTTPConfiguration.ErrorBody = { status, message in
    ("application/json", APIError.plain(status: status, message: message).json.encoded)
  }
}
