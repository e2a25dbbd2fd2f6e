import Formats
import Model

extension AdapterRoutes {
  /// What loading and uploading answer with.
  static func loadedJSON(_ record: AdapterRecord) -> JSONValue {
    guard let version = record.current else { return ["name": .string(record.name)] }
    return [
      "name": .string(record.name), "version": .integer(version.number), "rank": .integer(version.rank),
      "targets": .array(version.targets.map(JSONValue.string)), "bytes": .integer(version.memoryBytes),
      "pinned": .bool(record.isPinned), "content_hash": .string(version.contentHash),
    ]
  }

  /// A name with its current version's figures, and all versions.
  static func json(_ listing: AdapterListing) -> JSONValue {
    let record = listing.record
    var pairs: [(key: String, value: JSONValue)] = [
      ("name", .string(record.name)), ("object", "adapter"),
      ("version", record.currentNumber.map(JSONValue.integer) ?? .null),
    ]
    pairs += state(listing.state)
    if let warning = listing.warning { pairs.append(("warning", .string(warning))) }
    pairs.append(("pinned", .bool(record.isPinned)))
    pairs += figures(record.current)
    pairs.append(
      (
        "versions",
        .array(
          record.versions.map { version in
            .object(
              JSONObject(
                keepingFirst: [("version", .integer(version.number))]
                  + state(listing.versionStates[version.number] ?? .onDisk) + figures(version)))
          })
      ))
    return .object(JSONObject(keepingFirst: pairs))
  }

  private static func state(_ state: AdapterState) -> [(key: String, value: JSONValue)] {
    switch state {
    case .loaded: [("state", "loaded"), ("reason", .null)]
    case .onDisk: [("state", "on_disk"), ("reason", .null)]
    case .unloaded: [("state", "unloaded"), ("reason", .null)]
    case .incompatible(let reason): [("state", "incompatible"), ("reason", .string(reason))]
    case .refused(let reason): [("state", "refused"), ("reason", .string(reason))]
    }
  }

  private static func figures(_ version: AdapterVersion?) -> [(key: String, value: JSONValue)] {
    guard let version else { return [] }
    return [
      ("rank", .integer(version.rank)), ("targets", .array(version.targets.map(JSONValue.string))),
      ("bytes", .integer(version.memoryBytes)), ("file_bytes", .integer(version.fileBytes)),
      ("content_hash", .string(version.contentHash)), ("base", .string(version.base)),
      ("created", .integer(version.createdAt)), ("source", version.source.map(JSONValue.string) ?? .null),
    ]
  }
}

extension AdapterError {
  /// - Parameter param: the field that named the adapter
  func apiError(param: String) -> APIError {
    let param: String? = kind == .badName && param == "lora_path" ? "lora_name" : param
    switch kind {
    case .unknownName: return .invalid(description, param: param, code: "model_not_found", status: 404)
    case .badName, .badPath: return .invalid(description, param: param, code: "invalid_value")
    case .refused: return .invalid(description, param: param, code: "invalid_adapter")
    case .incompatible: return .invalid(description, param: param, code: "incompatible_adapter")
    case .damaged: return .server(500, description, param: param, code: "damaged_adapter")
    case .timedOut: return EngineError.timedOut.apiError
    case .overBudget: return .server(503, description, param: param, code: "adapter_memory_exhausted")
    case .storage: return .server(500, description, param: nil, code: "storage_failed")
    }
  }
}

extension APIError {
  fileprivate static func server(_ status: Int, _ message: String, param: String?, code: String) -> APIError {
    APIError(status: status, type: "server_error", message: message, param: param, code: code)
  }
}

extension HTTPExchange {
  func respond(_ error: AdapterError, param: String) {
    // Memory comes back when a request ends.
    if error.kind == .overBudget { setHeader("Retry-After", "1") }
    respond(error.apiError(param: param))
  }
}
