import Logging
import Testing

@testable import Serve

@Suite(.serialized) struct RouterTests {
  /// A server whose routes answer with their name and what they captured.
  private func server(apiKey: String? = nil) throws -> HTTPTestServer {
    var router = Router(apiKey: apiKey, unknownNames: UnknownNameLog(Logger(label: "test")))
    func on(_ method: String, _ pattern: String, isOpen: Bool = false) {
      router.on(method, pattern, isOpen: isOpen) { request in
        let captures = request.captures.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
        request.exchange.respond(
          status: 200, headers: ["client": "\(request.client.key ?? "none") \(request.client.address)"],
          body: Array(([method, pattern] + captures).joined(separator: " ").utf8))
      }
    }
    on("GET", "health", isOpen: true)
    router.on("GET", "v1/models", query: ["adapter", "limit", "metadata"]) { request in
      request.exchange.respond(
        status: 200, headers: ["client": "\(request.client.key ?? "none") \(request.client.address)"],
        body: Array("GET v1/models".utf8))
    }
    on("GET", "v1/models/{id...}")
    on("DELETE", "v1/models/{id...}")
    on("POST", "v1/jobs/{job}/cancel")
    on("GET", "v1/jobs/{job}/events/{event}")
    on("GET", "v1/files/{name...}/content")
    on("GET", "v1/files/{name...}")
    let table = router
    return try HTTPTestServer { table.handle($0) }
  }

  @Test func patternsMatchAndCapture() throws {
    let server = try server()
    let client = try server.client()
    let table = [
      ("/v1/models", "GET v1/models"),
      ("/v1/models/a", "GET v1/models/{id...} id=a"),
      ("/v1/models/org/name", "GET v1/models/{id...} id=org/name"),
      ("/v1/models/org%2Fname", "GET v1/models/{id...} id=org/name"),
      ("/v1/models/ft:a:b/c/d", "GET v1/models/{id...} id=ft:a:b/c/d"),
      ("/v1/models/a//b", "GET v1/models/{id...} id=a//b"),
      ("/v1/models/%C3%A9", "GET v1/models/{id...} id=é"),
      ("/v1/jobs/j-1/events/7", "GET v1/jobs/{job}/events/{event} event=7 job=j-1"),
      ("/v1/files/a", "GET v1/files/{name...} name=a"),
      ("/v1/files/content", "GET v1/files/{name...} name=content"),
      ("/v1/files/a/content", "GET v1/files/{name...}/content name=a"),
      ("/v1/files/a%2Fcontent", "GET v1/files/{name...} name=a/content"),
      ("/v1/files/a/b/content", "GET v1/files/{name...}/content name=a/b"),
      ("/v1/files/content/content", "GET v1/files/{name...}/content name=content"),
      ("/v1/files/a/content/b", "GET v1/files/{name...} name=a/content/b"),
      ("/v1/files//content", "GET v1/files/{name...} name=/content"),
      ("/health?x=1", "GET health"),
    ]
    for (target, expected) in table {
      let response = try client.get(target)
      #expect(response.status == 200 && response.text == expected, "\(target)")
    }
    for target in [
      "/", "/v1", "/v1/model", "/v1/models/", "/v1/jobs/a/b/cancel", "/v1/jobs//", "/healthy", "/health/x",
      "/V1/models",
    ] {
      let response = try client.get(target)
      #expect(response.status == 404 && response.text.contains("unknown_url"), "\(target)")
    }
  }

  @Test func anotherMethodIsNotAllowed() throws {
    let server = try server()
    let client = try server.client()
    try client.send("PUT /v1/models/a/b HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    let response = try client.receiveResponse()
    #expect(response.status == 405 && response.headers["allow"] == "DELETE, GET")
    try client.send("HEAD /v1/models/a HTTP/1.1\r\nHost: x\r\n\r\n")
    #expect(try client.receiveResponse(toHead: true).status == 200)
    #expect(try client.get("/v1/jobs/a/cancel").status == 405)
  }

  @Test func theKeyIsDemandedBeforeAnythingIsTold() throws {
    let server = try server(apiKey: "secret")
    let client = try server.client()
    #expect(try client.get("/health").status == 200)
    for target in ["/v1/models", "/nowhere", "/v1/jobs/a/cancel"] {
      for value in ["", "secret", "Bearer secre", "Bearer secrets", "Bearer "] {
        let header = value.isEmpty ? "" : "Authorization: \(value)\r\n"
        let response = try client.get(target, headers: header)
        #expect(response.status == 401 && response.headers["www-authenticate"] == "Bearer", "\(target) \(header)")
      }
    }
    for value in ["Bearer secret", "bearer secret", "BEARER secret"] {
      let response = try client.get("/v1/models", headers: "Authorization: \(value)\r\n")
      #expect(response.headers["client"] == "api-key 127.0.0.1", "one client, however the header is spelt")
    }
    #expect(try client.get("/v1/models", headers: "authorization: bearer secret\r\n").status == 200)
    #expect(try client.get("/nowhere", headers: "Authorization: Bearer secret\r\n").status == 404)
  }

  /// A misspelt key would change the answer without a word.
  @Test func misspeltQueryKeysAreAskedAbout() throws {
    let server = try server()
    let client = try server.client()
    for (query, meant) in [
      ("adapters=x", "adapter"), ("adaptor=x", "adapter"), ("Adapter=x", "adapter"), ("a=1&limits=2", "limit"),
      ("lmit=2", "limit"), ("%61dapte=x", "adapter"), ("adapter[]=x", "adapter"), ("adapter[0]=x", "adapter"),
      ("lora_name=x", "adapter"), ("lora=x", "adapter"), ("model=x", "adapter"), ("metadat=x", "metadata"),
    ] {
      let response = try client.get("/v1/models?\(query)")
      #expect(response.status == 400 && response.text.contains("did you mean '\(meant)'"), "\(query)")
    }
    for query in ["", "adapter=x&adapter=y", "limit=1", "metadata[k]=v", "utm_source=x", "a", "v=2"] {
      #expect(try client.get("/v1/models?\(query)").status == 200, "\(query)")
    }
  }
}
