import Formats

/// The responses that are kept: `/v1/responses/{id}`.
struct ResponseRoutes: Sendable {
  let store: ResponseStore
  let pools: BlockingPools

  func add(to router: inout Router) {
    router.on("GET", "v1/responses/{id}", query: ["include", "stream"]) { (request) throws(APIError) in
      if try PageQuery(request.exchange).bool("stream") == true {
        throw .invalid(
          "'stream' of a response that is complete is not supported by this server", param: "stream",
          code: "unsupported_parameter")
      }
      answer(request) { (store, id) throws(APIError) in
        guard let response = try store.read(.response, of: id) else { throw .unknownResponse(id) }
        return response
      }
    }
    router.on("DELETE", "v1/responses/{id}") { request in
      answer(request) { (store, id) throws(APIError) in
        guard try store.remove(id) else { throw .unknownResponse(id) }
        return ["id": .string(id), "object": "response", "deleted": true]
      }
    }
    let keys: Set<String> = ["after", "include", "limit", "order"]
    router.on("GET", "v1/responses/{id}/input_items", query: keys) { (request) throws(APIError) in
      let query = PageQuery(request.exchange)
      let limit = try query.limit(default: 20, maximum: 100)
      let order = query["order"] ?? "desc"
      guard order == "asc" || order == "desc" else {
        throw .invalid("'order' must be 'asc' or 'desc'", param: "order", code: "invalid_value")
      }
      answer(request) { (store, id) throws(APIError) in
        guard var items = try store.read(.input, of: id)?.array else { throw .unknownResponse(id) }
        if order == "desc" { items.reverse() }
        if let after = query["after"] {
          guard let index = items.firstIndex(where: { $0.object?["id"]?.string == after }) else {
            throw .unknownCursor
          }
          items.removeFirst(index + 1)
        }
        return PageQuery.json(Array(items.prefix(limit)), hasMore: items.count > limit)
      }
    }
  }

  private func answer(
    _ request: RoutedRequest, _ body: @escaping @Sendable (ResponseStore, String) throws(APIError) -> JSONValue
  ) {
    let (store, id) = (store, request.captures["id"] ?? "")
    request.exchange.respond(on: pools.reading) { () throws(APIError) in try body(store, id) }
  }
}

extension APIError {
  fileprivate static func unknownResponse(_ id: String) -> APIError {
    .invalid("Response with id '\(id.excerpt(80))' not found.", param: "id", code: "not_found", status: 404)
  }
}
