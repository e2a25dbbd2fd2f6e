import Dispatch
import Synchronization
import Testing

@testable import Formats
@testable import Model
@testable import Serve

/// Large answers are encoded beside the event loop: while the pool for that does nothing, the loop goes on without them.
@Suite struct EncodingTests {
  /// Collects what is written on a loop that runs.
  private final class Target: AnswerTarget, @unchecked Sendable {
    let loop: EventLoop
    let isClosed = false
    let parts = Mutex<[[UInt8]]>([])
    let ended = Flag()
    /// Called on the loop after each part.
    private let onWrite: @Sendable (Int) -> Void

    init(_ loop: EventLoop, onWrite: @escaping @Sendable (Int) -> Void = { _ in }) {
      self.loop = loop
      self.onWrite = onWrite
    }

    func onClose(_ handler: @escaping () -> Void) {}
    func respond(status: Int, headers: HTTPHeaders, body: [UInt8]) {
      _ = write(body)
      end()
    }
    func startStreaming(status: Int, headers: HTTPHeaders, length: Int?) {}
    func write(_ bytes: [UInt8]) -> Bool {
      loop.preconditionInLoop()
      let count = parts.withLock {
        $0.append(bytes)
        return $0.count
      }
      onWrite(count)
      return true
    }
    func end() { ended.set() }

    /// The JSON of a whole answer.
    func json() throws -> JSONValue {
      try JSONValue.parse(parts.withLock { $0.first ?? [] }, subject: "answer")
    }

    /// The JSON of the events.
    func events() throws -> [JSONValue] {
      let text = String(decoding: parts.withLock { $0.flatMap(\.self) }, as: UTF8.self)
      let lines = text.split(separator: "\n").filter { $0.hasPrefix("data: {") }
      return try lines.map { try JSONValue.parse(Array($0.dropFirst(6).utf8), subject: "event") }
    }
  }

  private let setting: AnswerSetting
  private let pool = WorkerPool(label: "test", threads: 1)
  private let gate = DispatchSemaphore(value: 0)

  init() throws {
    setting = try AnswerSetting(contextLength: 300)
    pool.async { [gate] in gate.wait() }
  }

  /// Runs on the loop, and waits for it.
  private func onLoop(_ work: @Sendable @escaping () -> Void) {
    let done = Flag()
    setting.loop.execute {
      work()
      done.set()
    }
    #expect(done.wait())
  }

  private func frame(stream: Bool) -> AnswerFrame {
    AnswerFrame(id: "a", created: 7, model: "m", fingerprint: "fp", stream: stream, includeUsage: false)
  }

  private func records(_ count: Int) -> [TokenRecord] {
    (0..<count).map { index in
      TokenRecord(
        token: Int32(index % 200 + 1), bytes: [0x61], logprob: -1, rank: 1,
        top: (1...3).map { TokenLogprob(token: Int32($0), logprob: -2) })
    }
  }

  /// A choice of a whole answer is written by the pool if it has many log-probabilities, of the answer or of the prompt.
  @Test(arguments: [#""logprobs": 3"#, #""logprobs": 3, "echo": true"#, #""prompt_logprobs": 3"#])
  func wholeAnswers(fields: String) throws {
    let prepared = try setting.prepare(.completions, #"{"prompt": [1, 2], "max_tokens": 4, \#(fields)}"#)
    let request = try #require(prepared as? AnswerRequest)
    func finish(_ count: Int) -> Target {
      var logprobs = ChoiceLogprobs(request, setting.context.tokenizer)
      logprobs.prompt = records(count)
      logprobs.answer = records(count)
      let choice = FinishedChoice(answer: AnswerContent(text: "a"), logprobs: logprobs, reason: .stop)
      let (target, frame, pool) = (Target(setting.loop), frame(stream: false), pool)
      onLoop { ChoiceWriter(CompletionShape(), frame, to: target, encoding: pool).finish([choice], usage: .init()) }
      return target
    }
    let (large, small) = (finish(400), finish(20))
    #expect(small.ended.timesSet == 1 && large.ended.timesSet == 0)
    gate.signal()
    #expect(large.ended.wait())
    for (target, count) in [(large, 400), (small, 20)] {
      let choice = try target.json().object?["choices"]?.array?.first?.object
      let tokens = choice?["logprobs"]?.object?["tokens"]?.array?.count
      let prompt = choice?["prompt_logprobs"]?.array?.count
      #expect(fields.contains("prompt_") ? prompt == count : tokens == count * (fields.contains("echo") ? 2 : 1))
    }
  }

  /// The last events of a response repeat all log-probabilities. They come in their order all the same.
  @Test(arguments: [false, true]) func responses(stream: Bool) throws {
    let shape = ResponseShape(chat: ChatShape(), settings: [], input: [], earlier: [], memory: [], store: nil)
    var chat = ChatLogprobs(tokenizer: setting.context.tokenizer)
    chat.append(records(400), isPrompt: false)
    let logprobs = chat.take()
    let (target, frame, pool) = (Target(setting.loop), frame(stream: stream), pool)
    onLoop {
      let writer = ResponseWriter(shape, frame, to: target, encoding: pool)
      writer.open(0)
      writer.add("text", logprobs: logprobs, to: 0)
      writer.end(0, AnswerContent(text: "text"), logprobs: nil, reason: .stop)
      writer.finish([FinishedChoice(answer: AnswerContent(), logprobs: nil, reason: .stop)], usage: .init())
    }
    #expect(target.ended.timesSet == 0)
    if stream { #expect(try target.events().last?.object?["type"] == "response.output_text.delta") }
    gate.signal()
    #expect(target.ended.wait())
    guard stream else { return #expect(try target.json().object?["output"]?.array?.count == 1) }
    let events = try target.events().compactMap(\.object)
    let kinds = [
      "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.done",
      "content_part.done", "output_item.done", "completed",
    ]
    #expect(events.map { $0["type"] } == kinds.map { .string("response.\($0)") })
    #expect(events.map { $0["sequence_number"] } == events.indices.map { .integer($0) })
    #expect(events[5]["logprobs"]?.array?.count == 400)
  }

  /// A prompt that is streamed back comes in short parts, between which the loop does what else there is. Together the parts are
  /// what a whole answer has.
  @Test(arguments: [1, 2]) func anEchoComesInParts(choices: Int) throws {
    gate.signal()
    let ids = (0..<200).map { "\($0 % 150 + 100)" }.joined(separator: ",")
    let body = #""prompt": [\#(ids)], "max_tokens": 3, "n": \#(choices), "temperature": 0, "echo": true, "logprobs": 2"#
    let context = setting.context
    func answer(_ json: String, _ target: Target) throws {
      let request = try setting.prepare(.completions, json)
      onLoop {
        do throws(APIError) {
          try request.run(for: target, client: ClientIdentity(), query: [], context: context)
        } catch {
          target.respond(error)
        }
      }
      #expect(target.ended.wait())
    }
    let whole = Target(setting.loop)
    try answer("{\(body)}", whole)
    let (loop, written, between) = (setting.loop, Box(0), Box(0))
    let streamed = Target(loop) { count in
      written.value = count
      if count == 1 { loop.execute { between.value = written.value } }
    }
    try answer("{\(body), \"stream\": true}", streamed)
    #expect(between.value == 1, "other work of the loop waited for the next part")
    let expected = try whole.json().object?["choices"]?.array ?? []
    #expect(expected.count == choices)
    for (index, choice) in expected.enumerated() {
      let parts = try streamed.events().compactMap { $0.object?["choices"]?.array?.first?.object }
        .filter { $0["index"] == .integer(index) }
      #expect(parts.map { $0["text"]?.string ?? "" }.joined() == choice.object?["text"]?.string)
      for name in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        let lists = parts.map { $0["logprobs"]?.object?[name]?.array ?? [] }
        #expect(lists.allSatisfy { $0.count <= 64 }, "\(name)")
        #expect(JSONValue.array(lists.flatMap(\.self)) == choice.object?["logprobs"]?.object?[name], "\(name)")
      }
    }
  }
}
