public import Formats
public import Foundation
import Synchronization

/// A running server's adapters and jobs, through its HTTP API.
public struct ServerClient: Sendable {
  /// Sends the requests.
  public let http: HTTPClient

  /// - Parameters: as `HTTPClient`'s
  /// - Throws: `ClientError` for an address that is not one of HTTP
  public init(url: String, key: String?) throws(ClientError) { http = try HTTPClient(url: url, key: key) }

  // MARK: adapters

  /// Every name, as `GET /v1/adapters` lists it.
  public func adapters() throws(ClientError) -> [JSONValue] {
    try http.json("GET", "/v1/adapters").object?["data"]?.array ?? []
  }

  /// Uploads a PEFT folder under a name.
  /// - Parameter files: the folder's files to send
  /// - Returns: the registered version
  /// - Throws: `ClientError`, and the system's error if a file cannot be read
  public func load(name: String, files: [URL], pinned: Bool) throws -> JSONValue {
    let form = try MultipartFile(files: files, fields: pinned ? [("pinned", "true")] : [])
    return try http.json("PUT", path("adapters", name), .file(form.url, type: form.contentType))
  }

  /// Gives a weighted set of the server's adapters a name.
  /// - Parameters:
  ///   - adapters: "a:0.7,b:0.3"
  ///   - combination: "cat" or "linear"
  /// - Returns: the registered version
  public func combine(name: String, adapters: String, combination: String, pinned: Bool) throws(ClientError)
    -> JSONValue
  {
    var body: [(key: String, value: JSONValue)] = [
      ("adapters", .string(adapters)), ("combination", .string(combination)),
    ]
    if pinned { body.append(("pinned", true)) }
    return try http.json("PUT", path("adapters", name), .json(.object(JSONObject(keepingFirst: body))))
  }

  /// Removes a name until it is loaded again.
  public func unload(name: String) throws(ClientError) {
    _ = try http.send("POST", "/v1/unload_lora_adapter", .json(["lora_name": .string(name)]))
  }

  /// Deletes all versions of an adapter, or one.
  public func remove(name: String, version: Int?) throws(ClientError) {
    _ = try http.send("DELETE", path("adapters", name) + (version.map { "?version=\($0)" } ?? ""))
  }

  /// An adapter's two files.
  /// - Parameter name: may end in "@" and a version
  public func content(name: String) throws -> [(name: String, data: Data)] {
    try TarArchive.files(of: http.send("GET", path("adapters", name, "content")))
  }

  // MARK: jobs

  /// All fine-tuning jobs, the newest first.
  public func jobs() throws(ClientError) -> [JSONValue] {
    var jobs: [JSONValue] = []
    while true {
      let after = jobs.last?.object?["id"]?.string.map { "&after=\(HTTPClient.encoded($0))" } ?? ""
      let page = try http.json("GET", "/v1/fine_tuning/jobs?limit=1000\(after)").object
      let data = page?["data"]?.array ?? []
      jobs += data
      guard page?["has_more"]?.bool == true, !data.isEmpty else { return jobs }
    }
  }

  /// One job.
  public func job(_ id: String) throws(ClientError) -> JSONValue {
    try http.json("GET", path("fine_tuning/jobs", id))
  }

  /// Pauses, resumes or cancels a job.
  /// - Parameter action: the last part of the route
  /// - Returns: the job after it
  public func change(_ id: String, _ action: String) throws(ClientError) -> JSONValue {
    try http.json("POST", path("fine_tuning/jobs", id, action))
  }

  /// Gives a job's past events and each new one to `receive`, on another thread, until the job is over.
  public func follow(_ id: String, receive: @escaping @Sendable (JSONValue) -> Void) throws(ClientError) {
    let parser = Mutex(EventParser())
    try http.stream("GET", path("fine_tuning/jobs", id, "events?stream=true")) { data in
      for event in parser.withLock({ $0.add(data) }) { receive(event) }
    }
  }

  /// "/v1/adapters/NAME/content", with the name percent-encoded.
  private func path(_ collection: String, _ name: String, _ rest: String? = nil) -> String {
    "/v1/\(collection)/\(HTTPClient.encoded(name))\(rest.map { "/" + $0 } ?? "")"
  }
}
