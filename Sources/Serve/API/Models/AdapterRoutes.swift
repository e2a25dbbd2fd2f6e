import Formats
import Logging
import Model

/// Adapters over HTTP: vLLM's two routes for loading and unloading, and `/v1/adapters`.
struct AdapterRoutes: Sendable {
  let store: AdapterStore
  let base: Base
  let preparation: RequestPreparation
  let uploads: UploadService
  let unknownNames: UnknownNameLog
  let pools: BlockingPools
  let logger: Logger

  func add(to router: inout Router) {
    router.on("POST", "v1/load_lora_adapter") { load($0) }
    router.on("POST", "v1/unload_lora_adapter") { unload($0) }
    router.on("GET", "v1/adapters", query: ["limit", "after"]) { (request) throws(APIError) in try list(request) }
    router.on("GET", "v1/adapters/{name...}/content", query: ["version", "format"]) { (request) throws(APIError) in
      try content(request)
    }
    router.on("GET", "v1/adapters/{name...}") { (request) throws(APIError) in
      try show(request, name: request.captures["name"] ?? "")
    }
    router.on("POST", "v1/adapters/{name...}") { reload($0) }
    router.on("PUT", "v1/adapters/{name...}") { (request) throws(APIError) in try upload(request) }
    router.on("DELETE", "v1/adapters/{name...}", query: ["version"]) { (request) throws(APIError) in try remove(request)
    }
  }

  private func load(_ request: RoutedRequest) {
    let exchange = request.exchange
    exchange.collectJSON(.settings, preparation, isCheap: true) { (fields, _) throws(APIError) in
      try FieldCatalog.loadAdapter.check(fields, log: unknownNames, path: "/v1/load_lora_adapter")
      return (
        name: try required(fields, "lora_name"), path: try required(fields, "lora_path"),
        pinned: try fields.bool("pinned")
      )
    } then: { (name, path, pinned) in
      change(exchange, param: "lora_path") { () throws(AdapterError) in
        let record = try store.load(name: name, path: path, pinned: pinned)
        logger.info("adapter loaded", metadata: ["name": .string(name), "version": "\(record.currentNumber ?? 0)"])
        return Self.loadedJSON(record)
      }
    }
  }

  private func unload(_ request: RoutedRequest) {
    let exchange = request.exchange
    exchange.collectJSON(.settings, preparation, isCheap: true) { (fields, _) throws(APIError) in
      try FieldCatalog.unloadAdapter.check(fields, log: unknownNames, path: "/v1/unload_lora_adapter")
      return try required(fields, "lora_name")
    } then: { name in
      change(exchange, param: "lora_name") { () throws(AdapterError) in
        try store.unload(name: name)
        logger.info("adapter unloaded", metadata: ["name": .string(name)])
        return ["name": .string(name), "status": "unloaded"]
      }
    }
  }

  /// `POST /v1/adapters/{name}`: loads a stored version again, and pins or unpins the adapter.
  private func reload(_ request: RoutedRequest) {
    let exchange = request.exchange
    let name = request.captures["name"] ?? ""
    exchange.collectJSON(.settings, preparation, isCheap: true) { (fields, _) throws(APIError) in
      try FieldCatalog.reloadAdapter.check(fields, log: unknownNames, path: "/v1/adapters/{name}")
      return (version: try fields.integer("version", in: 1...Int(Int32.max)), pinned: try fields.bool("pinned"))
    } then: { (version, pinned) in
      change(exchange, param: version == nil ? "name" : "version") { () throws(AdapterError) in
        let record = try store.reload(name: name, version: version, pinned: pinned)
        logger.info("adapter loaded", metadata: ["name": .string(name), "version": "\(record.currentNumber ?? 0)"])
        return Self.loadedJSON(record)
      }
    }
  }

  private func list(_ request: RoutedRequest) throws(APIError) {
    let list = try NameList(PageQuery(request.exchange))
    if let after = list.after, !store.knows(after) { throw .unknownCursor }
    let memory = store.memoryInUse
    let figures: JSONValue = [
      "budget": .integer(store.settings.memory), "bytes": .integer(memory.bytes), "adapters": .integer(memory.count),
    ]
    list.answer(request.exchange, on: pools.reading, after: list.after, more: [("memory", figures)]) { after, limit in
      let page = store.listings(after: after, limit: limit)
      return Page(elements: page.elements.map { ($0.record.name, Self.json($0)) }, hasMore: page.hasMore)
    }
  }

  func show(_ request: RoutedRequest, name: String) throws(APIError) {
    guard let listing = store.listing(name) else { throw .modelNotFound(name, param: "name") }
    guard try AdapterForm(request) == nil else {
      throw .invalid("'format' is for /v1/adapters/{name}/content", param: "format", code: "invalid_value")
    }
    request.exchange.respond(json: Self.json(listing))
  }

  private func remove(_ request: RoutedRequest) throws(APIError) {
    let name = request.captures["name"] ?? ""
    let number = try Self.version(request)
    change(request.exchange, param: number == nil ? "name" : "version") { () throws(AdapterError) in
      try store.remove(name: name, version: number)
      logger.info(
        "adapter deleted", metadata: ["name": .string(name), "version": .string(number.map(String.init) ?? "all")])
      return [
        "name": .string(name), "object": "adapter", "version": number.map(JSONValue.integer) ?? .null, "deleted": true,
      ]
    }
  }

  /// `PUT /v1/adapters/{name}`: an adapter's files as multipart/form-data, or a recipe of other adapters as JSON.
  private func upload(_ request: RoutedRequest) throws(APIError) {
    let exchange = request.exchange
    let name = request.captures["name"] ?? ""
    do throws(AdapterError) { try store.check(name: name) } catch { throw error.apiError(param: "name") }
    let type = exchange.request.headers["content-type"] ?? ""
    if type.lowercased().hasPrefix("application/json") { return combine(exchange, name: name) }
    let upload = try UploadReceiver(request, AdapterUpload(store.contents), uploads)
    let store = store
    let logger = logger
    upload.receive { result in
      switch result {
      case .failure(let error): exchange.respond(error)
      case .success(let received):
        change(exchange, param: "name") { () throws(AdapterError) in
          defer { store.contents.discard(received.folder) }
          let record = try store.load(name: name, folder: received.folder, origin: nil, pinned: received.pinned)
          logger.info("adapter uploaded", metadata: ["name": .string(name), "version": "\(record.currentNumber ?? 0)"])
          return Self.loadedJSON(record)
        }
      }
    }
  }

  private func combine(_ exchange: HTTPExchange, name: String) {
    exchange.collectJSON(.settings, preparation, isCheap: true) { (fields, _) throws(APIError) in
      try FieldCatalog.combineAdapters.check(fields, log: unknownNames, path: "/v1/adapters/{name}")
      let selector = try AdapterSelector(required(fields, "adapters"), param: "adapters")
      guard !selector.terms.isEmpty else {
        throw .invalid("'adapters' names no adapter", param: "adapters", code: "invalid_value")
      }
      let text = try fields.string("combination") ?? WeightedSum.Combination.cat.rawValue
      guard let combination = WeightedSum.Combination(rawValue: text) else {
        throw .invalid("'combination' must be 'cat' or 'linear'", param: "combination", code: "invalid_value")
      }
      return (selector: selector, combination: combination, pinned: try fields.bool("pinned"))
    } then: { recipe in
      let members = zip(recipe.selector.references, recipe.selector.terms).map {
        (reference: $0, weight: $1.scale ?? 1)
      }
      change(exchange, param: "adapters") { () throws(AdapterError) in
        let record = try store.combine(name: name, members, recipe.combination, pinned: recipe.pinned)
        logger.info("adapters combined", metadata: ["name": .string(name), "version": "\(record.currentNumber ?? 0)"])
        return Self.loadedJSON(record)
      }
    }
  }

  /// Changes the store and answers with the result.
  /// - Parameter param: the field that errors name
  private func change(
    _ exchange: HTTPExchange, param: String, _ body: @Sendable @escaping () throws(AdapterError) -> JSONValue
  ) {
    exchange.respond(on: pools.registering) { () throws(APIError) in
      do throws(AdapterError) { return try body() } catch { throw error.apiError(param: param) }
    }
  }

  private func required(_ fields: RequestFields, _ name: String) throws(APIError) -> String {
    guard let value = try fields.string(name), !value.isEmpty else {
      throw .invalid("'\(name)' is missing", param: name, code: "missing_required_parameter")
    }
    return value
  }
}
