import Formats
import Model

/// What all events of an answer have in common.
struct AnswerFrame: Sendable {
  var id: String
  /// Seconds since 1970.
  var created: Int
  /// The model's name.
  var model: String
  var fingerprint: String
  var stream: Bool
  /// Whether a stream's chunks have a member `usage`.
  var includeUsage: Bool
}

/// A choice of an answer that is complete.
struct FinishedChoice {
  var answer: AnswerContent
  /// Those that were not given to the writer before; `nil` where none were requested.
  var logprobs: JSONValue?
  /// Of the prompt; `nil` where they were not requested.
  var promptLogprobs: JSONValue?
  var reason: FinishReason
}

/// Writes one answer in the form of its route. Used on the target's loop only.
protocol AnswerWriter: AnyObject {
  /// Whether it wants a choice's parts as they come, and each choice's end.
  var takesParts: Bool { get }
  /// A choice has its first event.
  func open(_ index: Int)
  /// A choice has further text.
  /// - Parameter logprobs: of the tokens that end in the text; `nil` where none were requested
  func add(_ text: String, logprobs: JSONValue?, to index: Int)
  /// A choice has tool calls.
  /// - Parameter first: how many calls came before them
  func add(_ calls: [ToolCall], first: Int, to index: Int)
  /// A choice is complete.
  /// - Parameter answer: all of the choice
  func end(_ index: Int, _ answer: AnswerContent, logprobs: JSONValue?, reason: FinishReason)
  /// The answer is complete.
  /// - Parameter choices: in the order in which they are shown
  func finish(_ choices: [FinishedChoice], usage: GenerationUsage)
  /// The answer cannot be completed.
  func fail(_ error: APIError)
}

/// Writes completions and chats: one object with all choices, or a stream of chunks.
final class ChoiceWriter<Shape: ChoiceShape>: AnswerWriter {
  private let shape: Shape
  private let frame: AnswerFrame
  private let target: any AnswerTarget
  /// For each choice, its events with text and without logprobs.
  private var textEvents: [Int: EventTemplate] = [:]
  private var isStreaming = false
  /// The bytes of one event; the memory is reused.
  private var event: [UInt8] = []

  init(_ shape: Shape, _ frame: AnswerFrame, to target: any AnswerTarget) {
    self.shape = shape
    self.frame = frame
    self.target = target
  }

  var takesParts: Bool { frame.stream }

  func open(_ index: Int) {
    guard frame.stream else { return }
    if !isStreaming {
      isStreaming = true
      target.startEventStream()
    }
    if let opening = shape.opening(index) { send([opening]) }
  }

  func add(_ text: String, logprobs: JSONValue?, to index: Int) {
    if let logprobs { return send([shape.delta(index, text: text, logprobs: logprobs)]) }
    // The same event, but faster.
    let textEvent =
      textEvents[index] ?? EventTemplate { chunk([shape.delta(index, text: $0, logprobs: .null)]) }
    textEvents[index] = textEvent
    event.removeAll(keepingCapacity: true)
    textEvent.append(to: &event) { JSONValue.escape(text, into: &$0) }
    target.write(event)
  }

  func add(_ calls: [ToolCall], first: Int, to index: Int) {
    if let choice = shape.calls(index, calls, first: first) { send([choice]) }
  }

  func end(_ index: Int, _ answer: AnswerContent, logprobs: JSONValue?, reason: FinishReason) {
    send([shape.ending(index, answer, logprobs: logprobs ?? .null, reason: reason)])
  }

  func finish(_ choices: [FinishedChoice], usage: GenerationUsage) {
    if frame.stream {
      if frame.includeUsage {
        target.write(SSEWriter.event(envelope(shape.chunkObject, choices: [], usage: usage.json)))
      }
      target.write(SSEWriter.done)
      return target.end()
    }
    let list = choices.enumerated().map { index, choice in
      let json = shape.choice(index, choice.answer, logprobs: choice.logprobs ?? .null, reason: choice.reason)
      return shape.hasPrompts ? json.adding(promptLogprobs: choice.promptLogprobs) : json
    }
    let answer = envelope(shape.wholeObject, choices: list, usage: usage.json)
    target.respond(
      json: shape.hasPrompts ? answer : answer.adding(promptLogprobs: choices.first?.promptLogprobs))
  }

  func fail(_ error: APIError) {
    guard isStreaming else { return target.respond(error) }
    target.write(SSEWriter.event(error.json))
    target.end()
  }

  // MARK: events

  private func send(_ choices: [JSONValue]) { target.write(chunk(choices)) }

  private func chunk(_ choices: [JSONValue]) -> [UInt8] {
    let usage = frame.includeUsage ? #","usage":null}"# : "}"
    return SSEWriter.event(chunkOpening + JSONValue.array(choices).encoded + Array(usage.utf8))
  }

  /// The JSON of a chunk up to its choices. It is the same for all chunks of a stream, so it is encoded once.
  private lazy var chunkOpening: [UInt8] =
    JSONValue.object(JSONObject(keepingFirst: head(shape.chunkObject))).encoded.dropLast() + Array(#","choices":"#.utf8)

  private func head(_ object: String) -> [(key: String, value: JSONValue)] {
    [
      ("id", .string(frame.id)), ("object", .string(object)), ("created", .integer(frame.created)),
      ("model", .string(frame.model)), ("system_fingerprint", .string(frame.fingerprint)),
    ]
  }

  private func envelope(_ object: String, choices: [JSONValue], usage: JSONValue) -> JSONValue {
    .object(JSONObject(keepingFirst: head(object) + [("choices", .array(choices)), ("usage", usage)]))
  }
}

extension AnswerTarget {
  /// Begins a stream of server-sent events.
  func startEventStream() {
    startStreaming(
      status: 200, headers: ["Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"],
      length: nil)
  }
}
