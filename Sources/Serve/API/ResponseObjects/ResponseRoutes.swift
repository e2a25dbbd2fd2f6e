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
      answer(request) { (response) throws(APIError) in response.response }
    }
    router.on("DELETE", "v1/responses/{id}") { request in
      answer(request) { [store] (response) throws(APIError) in
        _ = try store.remove(response.id)
        return ["id": .string(response.id), "object": "response", "deleted": true]
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
      answer(request) { (response) throws(APIError) in
        var items = order == "asc" ? response.input : response.input.reversed()
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
    _ request: RoutedRequest, _ body: @escaping @Sendable (StoredResponse) throws(APIError) -> JSONValue
  ) {
    let (store, id) = (store, request.captures["id"] ?? "")
    request.exchange.respond(on: pools.reading) { () throws(APIError) in
      guard let response = try store.find(id) else {
        throw .invalid(
          "Response with id '\(id.excerpt(80))' not found.", param: "id", code: "not_found", status: 404)
      }
      return try body(response)
    }
  }
}
