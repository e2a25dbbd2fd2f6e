import Formats
import Dispatch
import Foundation
import Model
import Synchronization
import Testing

@testable import Serve

/// Bodies are read beside the loop, within limits.
@Suite(.serialized) struct RequestPreparationTests {
  private func post(_ client: HTTPTestClient, _ path: String, _ body: String, _ headers: String = "") throws {
    try client.send(
      "POST \(path) HTTP/1.1\r\nHost: a\r\n\(headers)Content-Length: \(body.utf8.count)\r\n\r\n\(body)")
  }

  /// Answers the number of fields; `/slow` waits for the gate first.
  private func server(
    _ preparation: RequestPreparation, limits: BodyLimits = .settings, gate: DispatchSemaphore? = nil,
    dropped: Flag? = nil
  ) throws -> HTTPTestServer {
    try HTTPTestServer { exchange in
      guard exchange.request.method == "POST" else { return exchange.respond(status: 200) }
      let isSlow = exchange.request.path == ["slow"]
      exchange.collectJSON(limits, preparation, isCheap: !isSlow) { (fields, abandonment) throws(APIError) in
        if isSlow { gate?.wait() }
        if abandonment.isSet { dropped?.set() }
        return fields.names.count
      } then: {
        exchange.respond(status: 200, body: Array("\($0)".utf8))
      }
    }
  }

  @Test func theLoopGoesOnWhileABodyIsRead() throws {
    let gate = DispatchSemaphore(value: 0)
    let preparation = RequestPreparation(threads: 1, capacity: 1)
    let server = try server(preparation, gate: gate)
    let slow = try server.client()
    try post(slow, "/slow", #"{"a": 1}"#)
    let other = try server.client()
    #expect(try other.get("/").status == 200)
    try post(other, "/", #"{"a": 1, "b": 2}"#)
    #expect(try other.receiveResponse().text == "2", "short bodies are read on the loop")
    // One more waits; a third finds no room.
    let waiting = try server.client()
    var refused: WireResponse?
    try post(waiting, "/slow", #"{"a": 1}"#)
    let deadline = ContinuousClock.now + .seconds(30)
    while refused?.status != 503, ContinuousClock.now < deadline {
      let third = try server.client()
      try post(third, "/slow", #"{"a": 1}"#)
      if third.hasInput { refused = try third.receiveResponse() }
      usleep(10_000)
      if third.hasInput { refused = try third.receiveResponse() }
    }
    #expect(refused?.status == 503 && refused?.headers["retry-after"] == "1")
    for _ in 0..<50 { gate.signal() }
    #expect(try slow.receiveResponse().text == "1")
  }

  @Test func workForAClientThatLeftIsDropped() throws {
    let gate = DispatchSemaphore(value: 0)
    let dropped = Flag()
    let server = try server(RequestPreparation(threads: 1), gate: gate, dropped: dropped)
    let client = try server.client()
    try post(client, "/slow", #"{"a": 1}"#)
    usleep(100_000)
    client.close()
    #expect(server.drains())
    gate.signal()
    #expect(dropped.wait())
  }

  @Test func valuesDepthAndBytesAreLimited() throws {
    let limits = BodyLimits(bytes: 100_000, json: JSONLimits(values: 1000, depth: 10))
    let server = try server(RequestPreparation(), limits: limits)
    let client = try server.client()
    func status(_ body: String) throws -> Int {
      try post(client, "/", body)
      return try client.receiveResponse().status
    }
    func list(_ item: String, _ count: Int) -> String {
      "{\"a\": [" + Array(repeating: item, count: count).joined(separator: ",") + "]}"
    }
    #expect(try status(list("1", 900)) == 200 && status(list("1", 1000)) == 400)
    // Objects and arrays weigh as much as they take.
    #expect(try status(list("{}", 60)) == 200 && status(list("{}", 62)) == 400)
    #expect(try status(list("[]", 240)) == 200 && status(list("[]", 250)) == 400)
    #expect(try status("{\"a\": " + String(repeating: "[", count: 9) + String(repeating: "]", count: 9) + "}") == 200)
    #expect(try status("{\"a\": " + String(repeating: "[", count: 11) + String(repeating: "]", count: 11) + "}") == 400)
    #expect(try status("{\"a\": \"" + String(repeating: "x", count: 99_000) + "\"}") == 200)
    try post(client, "/", "{\"a\": \"" + String(repeating: "x", count: 100_000) + "\"}")
    #expect(try client.receiveResponse().status == 413)
  }

  /// What a page of another origin can send without asking is no JSON.
  @Test func contentTypes() throws {
    let server = try server(RequestPreparation())
    let form = "application/x-www-form-urlencoded"
    for (headers, status) in [
      ("", 200), ("Content-Type: application/json\r\n", 200),
      ("content-type: Application/JSON; charset=utf-8\r\n", 200),
      ("Content-Type: \(form)\r\n", 200), ("Content-Type: \(form)\r\nOrigin: http://a\r\n", 415),
      ("Content-Type: text/plain\r\n", 415), ("Content-Type: text/plain;application/json\r\n", 415),
      ("Content-Type: application/octet-stream\r\n", 415), ("Content-Type: multipart/form-data; boundary=x\r\n", 415),
      ("Content-Type: text/json\r\n", 415), ("Content-Encoding: gzip\r\n", 415),
    ] {
      let client = try server.client()
      try post(client, "/", #"{"a": 1}"#, headers)
      #expect(try client.receiveResponse().status == status, "\(headers)")
    }
  }
}
