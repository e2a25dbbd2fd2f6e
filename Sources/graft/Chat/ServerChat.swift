import Client
import Formats
import Foundation
import Synchronization

/// Chats with a running server, over its HTTP API.
final class ServerChat: ChatBackend {
  private let http: HTTPClient
  private let fields: [(key: String, value: JSONValue)]
  private let adapters = Mutex("")
  private let cancellation = RequestCancellation()

  init(_ http: HTTPClient, sampling: SamplingOptions, maxTokens: Int) {
    self.http = http
    var fields: [(key: String, value: JSONValue)] = [
      ("stream", true), ("temperature", .number(sampling.temperature)), ("top_p", .number(sampling.topP)),
    ]
    if maxTokens > 0 { fields.append(("max_tokens", .integer(maxTokens))) }
    if let seed = sampling.seed.flatMap(Int.init(exactly:)) { fields.append(("seed", .integer(seed))) }
    self.fields = fields
  }

  var title: String { http.address }

  var adapterText: String {
    let names = adapters.withLock { $0 }
    return names.isEmpty ? "no adapter" : "adapter: \(names)"
  }

  /// - Throws: `ClientError` if the server does not know one of the names
  func use(adapters names: String) throws {
    let names = ["none", "base"].contains(names) ? "" : names
    // The server's own check of names, versions and weights, without an answer to wait for.
    if !names.isEmpty {
      let body: JSONValue = ["prompt": " ", "max_tokens": 0, "echo": true]
      _ = try http.send("POST", "/v1/completions?adapter=\(HTTPClient.encoded(names))", .json(body))
    }
    adapters.withLock { $0 = names }
  }

  func answer(_ messages: [JSONValue], receive: @escaping @Sendable (String) -> Void) throws -> String {
    let names = adapters.withLock { $0 }
    let path = "/v1/chat/completions" + (names.isEmpty ? "" : "?adapter=\(HTTPClient.encoded(names))")
    let body = JSONValue.object(JSONObject(keepingFirst: [("messages", .array(messages))] + fields))
    let state = Mutex((parser: EventParser(), text: "", error: String?.none))
    try http.stream("POST", path, .json(body), cancellation: cancellation) { data in
      let pieces = state.withLock { state in
        state.parser.add(data).compactMap { event -> String? in
          if let message = event["error"]?["message"]?.string { state.error = message }
          return event["choices"]?.array?.first?["delta"]?["content"]?.string
        }
      }
      for piece in pieces where !piece.isEmpty {
        state.withLock { $0.text += piece }
        receive(piece)
      }
    }
    let (text, error) = state.withLock { ($0.text, $0.error) }
    if let error { throw ClientError(error) }
    return text
  }

  func interrupt() -> Bool { cancellation.cancel() }

  func close() {}
}
