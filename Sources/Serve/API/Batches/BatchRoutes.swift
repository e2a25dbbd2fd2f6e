import Formats

/// OpenAI's batches: `/v1/batches`.
struct BatchRoutes: Sendable {
  let service: BatchService
  let preparation: RequestPreparation
  let unknownNames: UnknownNameLog
  let pools: BlockingPools

  func add(to router: inout Router) {
    router.on("POST", "v1/batches") { create($0) }
    router.on("GET", "v1/batches", query: ["after", "limit"]) { (request) throws(APIError) in try list(request) }
    router.on("GET", "v1/batches/{id}") { request in
      answer(request) { (service, id) throws(APIError) in try service.batch(id) }
    }
    router.on("POST", "v1/batches/{id}/cancel") { request in
      answer(request) { (service, id) throws(APIError) in try service.cancel(id) }
    }
  }

  private func create(_ request: RoutedRequest) {
    let (exchange, service, pools) = (request.exchange, service, pools)
    exchange.collectJSON(.settings, preparation, isCheap: true) { (fields, _) throws(APIError) in
      try FieldCatalog.batch.check(fields, log: unknownNames, path: "/v1/batches")
      return try BatchRequest(fields)
    } then: { wanted in
      exchange.respond(on: pools.reading) { () throws(APIError) in try service.create(wanted).json }
    }
  }

  private func list(_ request: RoutedRequest) throws(APIError) {
    let query = PageQuery(request.exchange)
    let limit = try query.limit(default: 20, maximum: 100)
    let database = service.database
    request.exchange.respond(on: pools.reading) { () throws(APIError) in
      let page = try query.page { try database.batches(after: query["after"], limit: limit) }
      return PageQuery.json(page.elements.map(\.json), hasMore: page.hasMore)
    }
  }

  private func answer(
    _ request: RoutedRequest, _ body: @escaping @Sendable (BatchService, String) throws(APIError) -> Batch
  ) {
    let (service, id) = (service, request.captures["id"] ?? "")
    request.exchange.respond(on: pools.reading) { () throws(APIError) in try body(service, id).json }
  }
}

/// The body of `POST /v1/batches`.
struct BatchRequest: Sendable {
  let endpoint: GenerationEndpoint
  let inputFile: String
  let metadata: JSONObject?

  /// - Throws: `APIError`, 400, that names the field
  init(_ fields: RequestFields) throws(APIError) {
    func required(_ name: String) throws(APIError) -> String {
      guard let value = try fields.string(name) else {
        throw .invalid("'\(name)' is missing", param: name, code: "missing_required_parameter")
      }
      return value
    }
    inputFile = try required("input_file_id")
    guard let endpoint = GenerationEndpoint(rawValue: try required("endpoint")) else {
      let known = GenerationEndpoint.allCases.map { "'\($0.rawValue)'" }.joined(separator: ", ")
      throw .invalid("'endpoint' must be one of \(known)", param: "endpoint", code: "invalid_value")
    }
    self.endpoint = endpoint
    guard try required("completion_window") == Batch.window else {
      throw .invalid(
        "'completion_window' must be '\(Batch.window)'", param: "completion_window", code: "invalid_value")
    }
    metadata = try fields.metadata()
  }
}
