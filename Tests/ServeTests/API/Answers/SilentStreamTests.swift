import Testing

@testable import Formats
@testable import Serve

/// Streams of requests that wait longer than proxies do.
@Suite struct SilentStreamTests {
  private static let bodies: [(GenerationEndpoint, String)] = [
    (.completions, #""prompt": "a", "max_tokens": 3"#),
    (.chat, #""messages": [{"role": "user", "content": "a"}], "max_tokens": 3"#),
    (.responses, #""input": "a", "max_output_tokens": 3"#),
  ]

  /// The status of a request, and what came of it, without the comments in between.
  /// - Parameter waits: whether the engine begins to work only when comments have come
  private func answer(
    _ endpoint: GenerationEndpoint, _ json: String, waits: Bool
  ) throws -> (status: Int, comments: Int, text: String) {
    let setting = try AnswerSetting(starts: !waits)
    let context = setting.context
    var hasStarted = !waits
    // The setting stops the engine.
    defer { if !hasStarted { context.engine.start() } }
    let request = try setting.prepare(endpoint, json)
    let server = try HTTPTestServer({ $0.maxSilence = waits ? .milliseconds(30) : .seconds(60) }) { exchange in
      do throws(APIError) {
        try request.run(for: exchange, client: ClientIdentity(), query: [], context: context)
      } catch { exchange.respond(error) }
    }
    let client = try server.client()
    try client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    guard waits else {
      let response = try client.receiveResponse()
      return (response.status, 0, response.text)
    }
    let status = try client.receiveHead().status
    var chunks = [try client.receiveChunk(), try client.receiveChunk()]
    context.engine.start()
    hasStarted = true
    while case let chunk = try client.receiveChunk(), !chunk.isEmpty { chunks.append(chunk) }
    let events = chunks.filter { $0 != SSEWriter.comment }
    return (status, chunks.count - events.count, String(decoding: events.joined(), as: UTF8.self))
  }

  @Test(arguments: SilentStreamTests.bodies.indices)
  func aRequestThatWaitsHasCommentsAndThenItsAnswer(index: Int) throws {
    let (endpoint, body) = Self.bodies[index]
    let (status, comments, text) = try answer(endpoint, "{\(body), \"stream\": true}", waits: true)
    #expect(status == 200 && comments >= 2)
    let ends = endpoint == .responses ? ["response.completed", "response.incomplete"] : ["data: [DONE]\n\n"]
    #expect(ends.contains(where: text.contains), "\(text)")
  }

  @Test(arguments: SilentStreamTests.bodies.indices)
  func whatFailsAfterACommentIsAnEvent(index: Int) throws {
    let (endpoint, body) = Self.bodies[index]
    let (status, _, text) = try answer(endpoint, "{\(body), \"stream\": true, \"timeout\": 0.001}", waits: true)
    #expect(status == 200 && text.hasPrefix("data: ") && text.hasSuffix("\n\n"))
    let event = try JSONValue.parse(Array(text.dropFirst(6).utf8), subject: "event")
    #expect(event.object?["error"]?.object?["code"] == "timeout", "\(text)")
  }

  @Test func whatFailsBeforeHasItsStatus() throws {
    let (endpoint, body) = Self.bodies[0]
    for stream in [true, false] {
      let json = "{\(body), \"stream\": \(stream), \"timeout\": 0.000001}"
      let (status, _, text) = try answer(endpoint, json, waits: false)
      #expect(status == 408 && text.hasPrefix(#"{"error":"#), "\(status) \(text)")
    }
  }
}
