import Formats
import Foundation
import Model

/// Writes a response: one object, or a stream of OpenAI's events. Used on the target's loop only.
///
/// The events are made in both cases, so that the items of a response are the same; without a stream they are not sent.
final class ResponseWriter: AnswerWriter {
  /// The message that is being written.
  private struct Message {
    var id = RandomName.make("msg_", length: 24)
    var text = ""
    var logprobs: [JSONValue] = []
    /// Log-probabilities of all of the tokens and their alternatives.
    var logprobCount = 0
    /// Whether encoding it takes long.
    var isLarge: Bool { logprobCount > ChoiceLogprobs.maximumOnLoop }
  }

  /// The call that is being written.
  private struct Call {
    let id = RandomName.make("fc_", length: 24)
    let callID = RandomName.make("call_", length: 24)
    let name: String
    var arguments = ""

    func item(_ status: String) -> JSONValue {
      ResponseItems.call(id: id, callID: callID, name: name, arguments: arguments, status: status)
    }
  }

  private let shape: ResponseShape
  private let frame: AnswerFrame
  private let target: any AnswerTarget
  private let encoding: WorkerPool
  private let stream: OrderedOutput
  /// The items that are complete.
  private var output: [JSONValue] = []
  private var message: Message?
  private var call: Call?
  /// The log-probabilities of tokens that have shown no text yet: they are those of the text that comes next, or of a call.
  private var held: [JSONValue] = []
  /// Log-probabilities of all items that are complete.
  private var logprobCount = 0
  private var isStreaming = false
  /// Events that were sent.
  private var eventCount = 0

  init(_ shape: ResponseShape, _ frame: AnswerFrame, to target: any AnswerTarget, encoding: WorkerPool) {
    self.shape = shape
    self.frame = frame
    self.target = target
    self.encoding = encoding
    stream = OrderedOutput(target, pool: encoding)
  }

  let takesParts = true

  /// Whether encoding the items takes long.
  private var isLarge: Bool { logprobCount > ChoiceLogprobs.maximumOnLoop }

  // MARK: the answer's parts

  func open(_ index: Int) {
    guard frame.stream else { return }
    isStreaming = true
    target.startEventStream()
    for type in ["response.created", "response.in_progress"] {
      send(type, [("response", shape.response(frame, status: "in_progress", output: []))])
    }
  }

  func add(_ text: String, logprobs: JSONValue?, to index: Int) {
    held += logprobs?.object?["content"]?.array ?? []
    if !text.isEmpty { write(text) }
  }

  /// Adds text, and the tokens of it, to the message.
  private func write(_ text: String) {
    if message == nil { begin() }
    let tokens = held
    held = []
    message?.text += text
    message?.logprobs += tokens
    message?.logprobCount += tokens.reduce(0) { $0 + 1 + ($1.object?["top_logprobs"]?.array?.count ?? 0) }
    send(
      "response.output_text.delta",
      position + [("content_index", 0), ("delta", .string(text)), ("logprobs", Self.eventLogprobs(tokens))])
  }

  func add(_ parts: [ToolCallPart], begun: Int, to index: Int) {
    for part in parts { add(part) }
    // They were the calls'.
    held = []
  }

  private func add(_ part: ToolCallPart) {
    switch part {
    case .begin(let name):
      endMessage(status: "completed")
      let call = Call(name: name)
      self.call = call
      send("response.output_item.added", place + [("item", call.item("in_progress"))])
    case .arguments(let text):
      guard let call else { return }
      self.call?.arguments += text
      send("response.function_call_arguments.delta", position(of: call.id) + [("delta", .string(text))])
    case .end(let isComplete):
      guard let call else { return }
      let done = call.item(isComplete ? "completed" : "incomplete")
      send("response.function_call_arguments.done", position(of: call.id) + [("arguments", .string(call.arguments))])
      send("response.output_item.done", place + [("item", done)])
      output.append(done)
      self.call = nil
    }
  }

  func end(_ index: Int, _ answer: AnswerContent, logprobs: JSONValue?, reason: FinishReason) {
    // A response has at least one item.
    if message == nil, output.isEmpty { begin() }
    // Tokens without text, such as the first of a character that was cut off, stay with the message.
    if message != nil, !held.isEmpty { write("") }
    endMessage(status: reason == .length ? "incomplete" : "completed")
  }

  func finish(_ choices: [FinishedChoice], usage: GenerationUsage) {
    let status = choices.first?.reason == .length ? "incomplete" : "completed"
    let response = shape.response(frame, status: status, output: output, usage: usage)
    guard let store = shape.store else { return send(response, status: status) }
    let record = StoredResponse(
      id: frame.id, createdAt: frame.created, response: response, input: shape.input,
      context: shape.earlier + shape.input + output.filter { !ResponseItems.isCut($0) })
    // It can be continued as soon as the client has it.
    let writer = LoopBound(self, on: target.loop)
    store.add(record) { [loop = target.loop] error in
      loop.execute {
        if let error { writer.value.fail(error) } else { writer.value.send(response, status: status) }
      }
    }
  }

  func fail(_ error: APIError) {
    guard isStreaming else { return target.respond(error) }
    let response = shape.response(frame, status: "failed", output: output, error: error)
    send("response.failed", isLarge: isLarge) { [("response", response)] }
    stream.end()
  }

  private func send(_ response: JSONValue, status: String) {
    if target.isClosed { return }
    guard frame.stream else {
      return isLarge ? target.respond(encodingOn: encoding) { response.encoded } : target.respond(json: response)
    }
    send("response.\(status)", isLarge: isLarge) { [("response", response)] }
    stream.end()
  }

  // MARK: messages

  private func begin() {
    let message = Message()
    self.message = message
    send(
      "response.output_item.added",
      place + [("item", ResponseItems.message("assistant", [], id: message.id, status: "in_progress"))])
    send("response.content_part.added", position + [("content_index", 0), ("part", Self.part(Message()))])
  }

  private func endMessage(status: String) {
    guard let message else { return }
    let (position, place, part) = (position, place, Self.part(message))
    send("response.output_text.done", isLarge: message.isLarge) {
      let logprobs = Self.eventLogprobs(message.logprobs)
      return position + [("content_index", 0), ("text", .string(message.text)), ("logprobs", logprobs)]
    }
    send("response.content_part.done", isLarge: message.isLarge) {
      position + [("content_index", 0), ("part", part)]
    }
    let item = ResponseItems.message("assistant", [part], id: message.id, status: status)
    send("response.output_item.done", isLarge: message.isLarge) { place + [("item", item)] }
    output.append(item)
    logprobCount += message.logprobCount
    self.message = nil
  }

  /// Tokens with their log-probabilities as events have them: without the tokens' bytes, which parts have.
  private static func eventLogprobs(_ tokens: [JSONValue]) -> JSONValue {
    func members(_ token: JSONValue, _ names: [String]) -> Members {
      names.compactMap { name in token.object?[name].map { (name, $0) } }
    }
    return .array(
      tokens.map { token in
        let top = (token.object?["top_logprobs"]?.array ?? []).map { other in
          JSONValue.object(JSONObject(keepingFirst: members(other, ["token", "logprob"])))
        }
        return .object(
          JSONObject(keepingFirst: members(token, ["token", "logprob"]) + [("top_logprobs", .array(top))]))
      })
  }

  private static func part(_ message: Message) -> JSONValue {
    [
      "type": "output_text", "text": .string(message.text), "annotations": [], "logprobs": .array(message.logprobs),
    ]
  }

  // MARK: events

  private typealias Members = [(key: String, value: JSONValue)]

  /// Which item an event is about.
  private var place: Members { [("output_index", .integer(output.count))] }
  private var position: Members { position(of: message?.id ?? "") }
  private func position(of item: String) -> Members { [("item_id", .string(item))] + place }

  private func send(_ type: String, _ members: Members) { send(type, isLarge: false) { members } }

  /// - Parameter isLarge: whether encoding the event takes long
  private func send(_ type: String, isLarge: Bool, _ members: @escaping @Sendable () -> Members) {
    guard isStreaming, !target.isClosed else { return }
    let number = eventCount
    eventCount += 1
    stream.write(isLarge: isLarge) {
      let head: Members = [("type", .string(type)), ("sequence_number", .integer(number))]
      let json = JSONValue.object(JSONObject(keepingFirst: head + members()))
      return Array("event: \(type)\n".utf8) + SSEWriter.event(json)
    }
  }
}
