import Formats
import Model

/// Server-sent events (WHATWG HTML, section 9.2) as OpenAI's clients read them.
enum SSEWriter {
  /// An event with JSON.
  static func event(_ json: JSONValue) -> [UInt8] { event(json.encoded) }

  /// An event with one line of text.
  static func event(_ line: [UInt8]) -> [UInt8] { Array("data: ".utf8) + line + [0x0A, 0x0A] }

  /// The last event of a stream that has not failed.
  static let done = Array("data: [DONE]\n\n".utf8)

  /// A comment, which clients pass over.
  static let comment = Array(": keep-alive\n\n".utf8)
}

extension AnswerTarget {
  /// Begins a stream of server-sent events, unless it has begun. While there are none for long, it has comments.
  func startEventStream() {
    startStreaming(
      status: 200, headers: ["Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"],
      length: nil)
    fillSilence(with: SSEWriter.comment)
  }

  /// Begins the stream of server-sent events with a comment if it has not begun before a proxy may take the connection for
  /// dead. What fails later is then told in the stream.
  func startEventStreamIfSilent() {
    onSilence { [weak self] in
      self?.startEventStream()
      self?.write(SSEWriter.comment)
    }
  }

  /// Answers with JSON.
  func respond(status: Int = 200, json: JSONValue) {
    respond(status: status, headers: ["Content-Type": "application/json"], body: json.encoded)
  }

  /// Answers with JSON that was encoded already.
  func respond(encoded json: [UInt8]) {
    respond(status: 200, headers: ["Content-Type": "application/json"], body: json)
  }

  /// Answers with JSON that a pool encodes, because that takes as long as many tokens.
  func respond(encodingOn pool: WorkerPool, _ make: @escaping @Sendable () -> [UInt8]) {
    pool.async { [self] in
      let json = make()
      loop.execute { [self] in if !isClosed { respond(encoded: json) } }
    }
  }

  /// Answers with an error; with an event if a stream of events has begun, whose status says nothing of it.
  func respond(_ error: APIError) {
    if hasBegunResponse {
      write(SSEWriter.event(error.json))
      return end()
    }
    var headers: HTTPHeaders = ["Content-Type": "application/json"]
    if error.status == 401 { headers.add("WWW-Authenticate", "Bearer") }
    if let seconds = error.retryAfter { headers.add("Retry-After", "\(seconds)") }
    if !error.mayBeRepeated { headers.add("x-should-retry", "false") }
    respond(status: error.status, headers: headers, body: error.json.encoded)
  }
}
