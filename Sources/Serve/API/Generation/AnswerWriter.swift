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
struct FinishedChoice: Sendable {
  var answer: AnswerContent
  /// Its log-probabilities, for a writer that does not take parts.
  var logprobs: ChoiceLogprobs?
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
  /// A choice has parts of tool calls.
  /// - Parameter begun: how many calls have begun before them
  func add(_ parts: [ToolCallPart], begun: Int, to index: Int)
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
  private let encoding: WorkerPool
  /// For each choice, its events with text and without logprobs.
  private var textEvents: [Int: EventTemplate] = [:]
  private var isStreaming = false
  /// The bytes of one event; the memory is reused.
  private var event: [UInt8] = []

  init(_ shape: Shape, _ frame: AnswerFrame, to target: any AnswerTarget, encoding: WorkerPool) {
    self.shape = shape
    self.frame = frame
    self.target = target
    self.encoding = encoding
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

  func add(_ parts: [ToolCallPart], begun: Int, to index: Int) {
    if let choice = shape.calls(index, parts, begun: begun) { send([choice]) }
  }

  func end(_ index: Int, _ answer: AnswerContent, logprobs: JSONValue?, reason: FinishReason) {
    send([shape.ending(index, answer, logprobs: logprobs ?? .null, reason: reason)])
  }

  func finish(_ choices: [FinishedChoice], usage: GenerationUsage) {
    if frame.stream {
      if frame.includeUsage {
        target.write(SSEWriter.event(frame.envelope(shape.chunkObject, choices: [], usage: usage.json)))
      }
      target.write(SSEWriter.done)
      return target.end()
    }
    let (shape, frame) = (shape, frame)
    guard choices.reduce(0, { $0 + ($1.logprobs?.count ?? 0) }) > ChoiceLogprobs.maximumOnLoop else {
      return target.respond(encoded: shape.whole(frame, choices, usage))
    }
    target.respond(encodingOn: encoding) { shape.whole(frame, choices, usage) }
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
    JSONValue.object(JSONObject(keepingFirst: frame.head(shape.chunkObject))).encoded.dropLast()
    + Array(#","choices":"#.utf8)
}

extension ChoiceShape {
  /// The JSON of a whole answer.
  fileprivate func whole(_ frame: AnswerFrame, _ choices: [FinishedChoice], _ usage: GenerationUsage) -> [UInt8] {
    let list = choices.enumerated().map { index, finished in
      let json = choice(index, finished.answer, logprobs: finished.logprobs?.json ?? .null, reason: finished.reason)
      return hasPrompts ? json.adding(promptLogprobs: finished.logprobs?.promptJSON) : json
    }
    let answer = frame.envelope(wholeObject, choices: list, usage: usage.json)
    return (hasPrompts ? answer : answer.adding(promptLogprobs: choices.first?.logprobs?.promptJSON)).encoded
  }
}

extension AnswerFrame {
  fileprivate func head(_ object: String) -> [(key: String, value: JSONValue)] {
    [
      ("id", .string(id)), ("object", .string(object)), ("created", .integer(created)),
      ("model", .string(model)), ("system_fingerprint", .string(fingerprint)),
    ]
  }

  fileprivate func envelope(_ object: String, choices: [JSONValue], usage: JSONValue) -> JSONValue {
    .object(JSONObject(keepingFirst: head(object) + [("choices", .array(choices)), ("usage", usage)]))
  }
}
