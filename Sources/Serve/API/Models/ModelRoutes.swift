import Formats
import Logging
import Model

/// OpenAI's models: the base, and the adapters that requests can name, with the base as their parent.
struct ModelRoutes: Sendable {
  let context: ServerContext
  let pools: BlockingPools
  let logger: Logger

  func add(to router: inout Router) {
    router.on("GET", "v1/models", query: ["limit", "after", "checkpoints"]) { (request) throws(APIError) in
      try list(request)
    }
    router.on("GET", "v1/models/{id...}") { (request) throws(APIError) in try show(request) }
    router.on("DELETE", "v1/models/{id...}") { (request) throws(APIError) in try remove(request) }
  }

  private func list(_ request: RoutedRequest) throws(APIError) {
    let query = PageQuery(request.exchange)
    let list = try NameList(query)
    let withCheckpoints = try query.bool("checkpoints") ?? false
    let isFromStart = list.after == nil
    let after = list.after.flatMap { isBase($0) ? nil : $0 }
    if let after, !context.adapters.knows(after) { throw .unknownCursor }
    let first = isFromStart ? [(name: context.servedModelName, json: baseJSON)] : []
    list.answer(request.exchange, on: pools.reading, after: after, first: first) { after, limit in
      let page = context.adapters.served(after: after, limit: limit) { name in
        withCheckpoints || !FineTuningNames.isCheckpoint(name)
      }
      return Page(elements: page.elements.map { ($0.name, json($0)) }, hasMore: page.hasMore)
    }
  }

  private func show(_ request: RoutedRequest) throws(APIError) {
    let id = request.captures["id"] ?? ""
    if isBase(id) { return request.exchange.respond(json: baseJSON) }
    guard let record = context.adapters[id] else { throw .modelNotFound(id, param: "model") }
    request.exchange.respond(json: json(record))
  }

  /// Deletes an adapter with all its versions, whether it was trained here or loaded.
  private func remove(_ request: RoutedRequest) throws(APIError) {
    let (exchange, id) = (request.exchange, request.captures["id"] ?? "")
    if isBase(id) {
      throw .invalid(
        "'\(id)' is the base, which cannot be deleted; adapters can", param: "model", code: "permission_denied",
        status: 403)
    }
    guard context.adapters[id] != nil else { throw .modelNotFound(id, param: "model") }
    exchange.respond(on: pools.registering) { () throws(APIError) in
      do throws(AdapterError) { try context.adapters.remove(name: id) } catch { throw error.apiError(param: "model") }
      logger.info("adapter deleted", metadata: ["name": .string(id)])
      return ["id": .string(id), "object": "model", "deleted": true]
    }
  }

  private func isBase(_ id: String) -> Bool { id == context.servedModelName || id == "base" }

  private var baseJSON: JSONValue {
    [
      "id": .string(context.servedModelName), "object": "model", "created": .integer(context.startedAt),
      "owned_by": "graft", "parent": .null, "root": .string(context.servedModelName),
      "max_model_len": .integer(context.contextLength),
    ]
  }

  private func json(_ record: AdapterRecord) -> JSONValue {
    [
      "id": .string(record.name), "object": "model", "created": .integer(record.current?.createdAt ?? 0),
      "owned_by": "graft", "parent": .string(context.servedModelName), "root": .string(record.name),
      "max_model_len": .integer(context.contextLength),
    ]
  }
}
