public import Formats
import Model

extension AdapterRoutes {
  /// The answer to loading and uploading an adapter.
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
    case .refused(let error): [("state", "refused"), ("reason", .string(error.advice))]
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

extension AdapterListing {
  /// The adapter as `GET /v1/adapters` lists it.
  public var json: JSONValue { AdapterRoutes.json(self) }
}

extension AdapterError {
  /// - Parameter param: the field that named the adapter
  func apiError(param: String) -> APIError {
    let param: String? = kind == .badName && param == "lora_path" ? "lora_name" : param
    switch kind {
    case .unknownName: return .invalid(advice, param: param, code: "model_not_found", status: 404)
    case .badName, .badPath: return .invalid(advice, param: param, code: "invalid_value")
    case .refused: return .invalid(advice, param: param, code: "invalid_adapter")
    case .incompatible: return .invalid(advice, param: param, code: "incompatible_adapter")
    case .damaged: return .server(500, advice, param: param, code: "damaged_adapter")
    case .timedOut: return EngineError.timedOut.apiError
    case .overBudget:
      var error = APIError.server(503, advice, param: param, code: "adapter_memory_exhausted")
      // Memory is released when another request ends, so the client should try again soon.
      error.retryAfter = 1
      return error
    case .storage: return .server(500, advice, param: nil, code: "storage_failed")
    }
  }
}

extension APIError {
  fileprivate static func server(_ status: Int, _ message: String, param: String?, code: String) -> APIError {
    APIError(status: status, type: "server_error", message: message, param: param, code: code)
  }
}
