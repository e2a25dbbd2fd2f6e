import Formats
import Foundation
import Logging
import Model

/// OpenAI's fine-tuning jobs: `/v1/fine_tuning/jobs`.
struct FineTuningRoutes: Sendable {
  let service: FineTuningService
  let servedModelName: String
  let preparation: RequestPreparation
  let unknownNames: UnknownNameLog

  /// Maximum jobs or checkpoints of a page.
  static let maximumPage = 1000
  /// Maximum events of a page.
  static let maximumEvents = 10_000

  func add(to router: inout Router) {
    let jobs = "v1/fine_tuning/jobs"
    router.on("POST", jobs) { create($0) }
    router.on("POST", "v1/fine_tuning/preview") { preview($0) }
    router.on("GET", jobs, query: ["after", "limit", "metadata"]) { (request) throws(APIError) in try list(request) }
    router.on("GET", jobs + "/{id}") { request in
      answer(request) { (service, id) throws(FineTuningError) in try service.job(id).json }
    }
    router.on("POST", jobs + "/{id}/cancel") { control($0) { $0.cancel($1, then: $2) } }
    router.on("POST", jobs + "/{id}/pause") { control($0) { $0.pause($1, then: $2) } }
    router.on("POST", jobs + "/{id}/resume") { request in
      answer(request) { (service, id) throws(FineTuningError) in try service.resume(id).json }
    }
    router.on("GET", jobs + "/{id}/events", query: ["after", "limit", "stream"]) { (request) throws(APIError) in
      try events(request)
    }
    router.on("GET", jobs + "/{id}/checkpoints", query: ["after", "limit"]) { (request) throws(APIError) in
      try checkpoints(request)
    }
  }

  // MARK: jobs

  private func create(_ request: RoutedRequest) {
    let exchange = request.exchange
    exchange.collectJSON(.jobSettings, preparation, isCheap: true) { (fields, _) throws(APIError) in
      try FieldCatalog.fineTuningJob.check(fields, log: unknownNames, path: "/v1/fine_tuning/jobs")
      return try FineTuningRequest(fields, servedModelName: servedModelName)
    } then: { wanted in
      let service = service
      service.validation.async {
        let result = Result { () throws(FineTuningError) in try service.create(wanted) }
        exchange.loop.execute { exchange.respond(result.map(\.json).mapError(\.apiError)) }
      }
    }
  }

  /// Answers what a job of the body would train on and need.
  private func preview(_ request: RoutedRequest) {
    let exchange = request.exchange
    exchange.collectJSON(.jobSettings, preparation, isCheap: true) { (fields, _) throws(APIError) in
      try FieldCatalog.fineTuningJob.check(fields, log: unknownNames, path: "/v1/fine_tuning/preview")
      return try FineTuningRequest(fields, servedModelName: servedModelName)
    } then: { wanted in
      let (service, stop) = (service, StopFlag())
      exchange.onClose { stop.raise() }
      service.validation.async {
        let result = Result { () throws(FineTuningError) in try service.preview(wanted, stop: stop) }
        exchange.loop.execute { exchange.respond(result.map(\.json).mapError(\.apiError)) }
      }
    }
  }

  private func list(_ request: RoutedRequest) throws(APIError) {
    let query = PageQuery(request.exchange)
    let limit = try query.limit(default: 20, maximum: Self.maximumPage)
    work(request) { (service, _) throws(APIError) in
      let page = try query.page {
        try service.database.jobs(after: query["after"], limit: limit, metadata: query.metadata)
      }
      let jobs = page.elements.map { (try? service.job($0.id)) ?? $0 }
      return PageQuery.json(jobs.map(\.json), hasMore: page.hasMore)
    }
  }

  /// Pauses or cancels a job, and answers when that is done.
  private func control(
    _ request: RoutedRequest,
    _ body:
      @escaping @Sendable (
        FineTuningService, String, @escaping (Result<FineTuningJob, FineTuningError>) -> Void
      ) -> Void
  ) {
    let (exchange, service, id) = (request.exchange, service, request.captures["id"] ?? "")
    service.queue.async {
      body(service, id) { result in
        exchange.loop.execute { exchange.respond(result.map(\.json).mapError(\.apiError)) }
      }
    }
  }

  // MARK: events and checkpoints

  private func events(_ request: RoutedRequest) throws(APIError) {
    let query = PageQuery(request.exchange)
    let limit = try query.limit(default: 20, maximum: Self.maximumEvents)
    guard query["stream"] != "true" else {
      return FineTuningEventStream(request.captures["id"] ?? "", service, request.exchange, after: query["after"])
        .start()
    }
    work(request) { (service, id) throws(APIError) in
      try Self.check(service, id)
      let page = try query.page {
        try service.database.events(of: id, newestFirst: true, after: query["after"], limit: limit)
      }
      return PageQuery.json(page.elements, hasMore: page.hasMore)
    }
  }

  private func checkpoints(_ request: RoutedRequest) throws(APIError) {
    let query = PageQuery(request.exchange)
    let limit = try query.limit(default: 10, maximum: Self.maximumPage)
    work(request) { (service, id) throws(APIError) in
      try Self.check(service, id)
      let page = try query.page {
        try service.database.checkpoints(of: id, after: query["after"], limit: limit)
      }
      return PageQuery.json(page.elements, hasMore: page.hasMore)
    }
  }

  private static func check(_ service: FineTuningService, _ id: String) throws(APIError) {
    do throws(FineTuningError) { _ = try service.job(id) } catch { throw error.apiError }
  }

  // MARK: answering

  private func answer(
    _ request: RoutedRequest,
    _ body: @escaping @Sendable (FineTuningService, String) throws(FineTuningError) -> JSONValue
  ) {
    work(request) { (service, id) throws(APIError) in
      do throws(FineTuningError) { return try body(service, id) } catch { throw error.apiError }
    }
  }

  /// Runs `body` on the jobs' queue, and answers on the loop with what it returns or throws.
  private func work(
    _ request: RoutedRequest, _ body: @escaping @Sendable (FineTuningService, String) throws(APIError) -> JSONValue
  ) {
    let (exchange, service, id) = (request.exchange, service, request.captures["id"] ?? "")
    service.queue.async {
      let result = Result { () throws(APIError) in try body(service, id) }
      exchange.loop.execute { exchange.respond(result) }
    }
  }
}

extension FineTuningError {
  /// The error as OpenAI's clients know it.
  var apiError: APIError {
    switch kind {
    case .invalid, .tooLarge: .invalid(message, param: param, code: code)
    case .unknownJob: .invalid(message, param: param, code: "fine_tune_not_found", status: 404)
    case .unknownModel: .invalid(message, param: param, code: code, status: 404)
    case .storage:
      APIError(status: 500, type: "server_error", message: message, param: param, code: code ?? "storage_failed")
    case .stopping: .plain(status: 503, message: message)
    }
  }
}
