import Formats
import Model

/// A line of OpenAI's chat format: `{"messages": […], "tools": […]}`, each assistant message with an optional `weight`
/// of 0 or 1; or of its preference format, `{"input": {"messages": …}, "preferred_output": […],
/// "non_preferred_output": […]}`.
struct ChatLine {
  private(set) var messages: [JSONValue] = []
  /// Indices of the messages that are learnt.
  private(set) var trained: Set<Int> = []
  var tools: [JSONValue] = []

  private static let keys: Set<String> = [
    "role", "content", "name", "weight", "tool_calls", "tool_call_id", "refusal", "reasoning_content",
  ]

  /// What is wrong with a line, as far as it was read.
  struct Reading {
    private var errors: [LineError] = []

    mutating func refuse(_ name: String, _ detail: String) { errors.append(LineError(name, detail)) }

    var count: Int { errors.count }

    func end() throws(LineErrors) { if !errors.isEmpty { throw LineErrors(errors: errors) } }
  }

  // MARK: reading

  /// - Throws: `LineErrors` with all that is wrong
  static func read(_ line: JSONObject) throws(LineErrors) -> ChatLine {
    var reading = Reading()
    var chat = ChatLine()
    chat.takeTools(line, "", &reading)
    chat.take(line["messages"], "messages", isTrained: true, &reading)
    chat.checkAssistant(&reading)
    try reading.end()
    return chat
  }

  /// A pair of chats that differ in their answers, which alone are learnt.
  static func readPreference(_ line: JSONObject) throws(LineErrors) -> (chosen: ChatLine, rejected: ChatLine) {
    var reading = Reading()
    var chat = ChatLine()
    let input = line["input"]?.object
    if input == nil { reading.refuse("data_type", "'input' is no object") }
    if let input { chat.takeTools(input, "input.", &reading) }
    chat.take(input?["messages"], "input.messages", isTrained: false, &reading)
    let chosen = chat.answered(line["preferred_output"], "preferred_output", &reading)
    let rejected = chat.answered(line["non_preferred_output"], "non_preferred_output", &reading)
    try reading.end()
    return (chosen, rejected)
  }

  func checkAssistant(_ reading: inout Reading) {
    if !messages.isEmpty, !messages.contains(where: { $0.object?["role"]?.string == "assistant" }) {
      reading.refuse("example_missing_assistant_message", "no message has the role 'assistant'")
    }
  }

  /// The chat with an answer appended, which is learnt.
  /// - Parameter path: what errors call the answer
  func answered(_ answer: JSONValue?, _ path: String, _ reading: inout Reading) -> ChatLine {
    var answered = self
    answered.take(answer, path, isTrained: true, &reading)
    if answered.messages.count > messages.count, answered.trained.isEmpty {
      reading.refuse("example_missing_assistant_message", "'\(path)' has no assistant message")
    }
    return answered
  }

  mutating func takeTools(_ line: JSONObject, _ prefix: String, _ reading: inout Reading) {
    switch line["tools"] {
    case nil, .null: break
    case .array(let list) where list.allSatisfy({ $0.object?["function"]?.object?["name"]?.string != nil }):
      tools = list
    default: reading.refuse("invalid_value", "'\(prefix)tools' is no list of functions")
    }
    if let functions = line["functions"], !functions.isNull {
      reading.refuse("invalid_value", "'\(prefix)functions' is not supported; use 'tools'")
    }
  }

  /// Reads a list of messages and appends them to those already read.
  /// - Parameters:
  ///   - path: what errors call it
  ///   - isTrained: whether the assistant's messages are learnt, unless their `weight` says otherwise
  mutating func take(_ value: JSONValue?, _ path: String, isTrained: Bool, _ reading: inout Reading) {
    guard let list = value?.array, !list.isEmpty else {
      return reading.refuse("missing_messages_list", "'\(path)' is no list with messages")
    }
    for (index, value) in list.enumerated() {
      let path = "\(path)[\(index)]"
      guard let object = value.object else {
        reading.refuse("data_type", "\(path) is no object")
        continue
      }
      let before = reading.count
      let message = Self.message(object, path, &reading)
      let weight = Self.weight(object, path, &reading)
      if reading.count > before { continue }
      if isTrained, weight, object["role"]?.string == "assistant" { trained.insert(messages.count) }
      messages.append(message)
    }
  }

  /// Whether a message is learnt: all are, except those with the `weight` 0.
  private static func weight(_ object: JSONObject, _ path: String, _ reading: inout Reading) -> Bool {
    guard let value = object["weight"], !value.isNull else { return true }
    if object["role"]?.string != "assistant" {
      reading.refuse("invalid_weight", "\(path) has a weight, which only an assistant's message can have")
    } else if value.double != 0, value.double != 1 {
      reading.refuse("invalid_weight", "\(path).weight is neither 0 nor 1")
    }
    return value.double != 0
  }

  // MARK: a message

  /// The message in the form that templates read.
  private static func message(_ object: JSONObject, _ path: String, _ reading: inout Reading) -> JSONValue {
    // A data set that was made from a table has every field in every row, most of them null.
    for key in object.keys where !keys.contains(key) && object[key]?.isNull == false {
      let known = key == "function_call" ? " is not supported; use 'tool_calls'" : " is not known"
      reading.refuse("message_unrecognized_key", "\(path).\(key)\(known)")
    }
    guard let role = object["role"] else {
      reading.refuse("message_missing_key", "\(path) has no 'role'")
      return .null
    }
    guard let name = role.string, ChatMessage.roles.contains(name) else {
      let found = role.string.map { "the role '\($0.prefix(40))'" } ?? "a role that is no string"
      reading.refuse("unrecognized_role", "\(path) has \(found)")
      return .null
    }
    var message = ChatMessage(role: name, content: "")
    let calls = name == "assistant" ? toolCalls(object["tool_calls"], path, &reading) : []
    let refusal = object["refusal"]?.string
    switch object["content"] {
    case .string(let text) where !text.isEmpty || !calls.isEmpty: message.content = .string(text)
    case .array(let parts) where !parts.isEmpty && parts.allSatisfy(isText): message.content = .array(parts)
    case .array: reading.refuse("missing_content", "\(path).content is no list of text parts")
    case nil where calls.isEmpty && refusal == nil:
      reading.refuse("message_missing_key", "\(path) has no 'content'")
    case nil: message.content = .string(refusal ?? "")
    case .null where !calls.isEmpty || refusal != nil: message.content = .string(refusal ?? "")
    default: reading.refuse("missing_content", "\(path).content is empty, or no string")
    }
    for field in ChatMessage.textFields {
      guard let value = object[field], !value.isNull else { continue }
      if value.string == nil { reading.refuse("invalid_value", "\(path).\(field) is no string") }
      message.texts.append((field, value))
    }
    message.toolCalls = calls
    return message.json
  }

  private static func isText(_ part: JSONValue) -> Bool {
    part.object?["type"]?.string == "text" && part.object?["text"]?.string != nil
  }

  /// Tool calls, whose arguments are an object or a string with one.
  private static func toolCalls(_ value: JSONValue?, _ path: String, _ reading: inout Reading) -> [JSONValue] {
    guard let value, !value.isNull else { return [] }
    var calls: [JSONValue] = []
    for call in value.array ?? [.null] {
      let function = call.object?["function"]?.object
      let arguments = function?["arguments"] ?? .object(JSONObject(keepingFirst: []))
      guard let name = function?["name"]?.string, ChatMessage.areArguments(arguments) else {
        reading.refuse("invalid_value", "\(path).tool_calls is no list of calls with a name and arguments")
        return []
      }
      calls.append(ChatMessage.toolCall(id: call.object?["id"]?.string, name: name, arguments: arguments))
    }
    return calls
  }

  // MARK: tokens

  /// The chat as tokens in the base's template, with loss on the messages that are learnt.
  func row(_ format: ChatFormat) throws(LineErrors) -> TrainingRow {
    let chat = Conversation(messages: messages, tools: tools, addsGenerationPrompt: false)
    let labelled: LabelledChat
    do throws(ChatFormatError) { labelled = try format.labelled(chat, learnt: trained) } catch {
      throw LineErrors(errors: [LineError("template_error", error.message)])
    }
    let labels = zip(labelled.tokens, labelled.messages).map { $1 == nil ? TrainingRow.ignored : $0 }
    return TrainingRow(tokens: labelled.tokens, labels: labels)
  }
}
