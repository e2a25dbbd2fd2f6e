import Formats
import Model

/// The items of a response's input, and the chat that they are.
enum ResponseItems {
  private static let roles = ["user", "assistant", "system", "developer"]

  /// Reads `input`: a string, or a list of items. A reference is replaced by the item that it names.
  /// - Returns: the items in the form in which they are stored, each with an id
  /// - Throws: `APIError`, 400, that names the item and its field; 404 for a reference to an item that is not kept
  static func read(_ fields: RequestFields, references: ItemReferences) throws(APIError) -> [JSONValue] {
    guard let value = fields["input"] else {
      throw .invalid("'input' is missing", param: "input", code: "missing_required_parameter")
    }
    switch value {
    case .string(let text):
      return [message("user", [["type": "input_text", "text": .string(text)]])]
    case .array(let values):
      var items: [JSONValue] = []
      var references = references
      for (index, value) in values.enumerated() {
        let path = "input[\(index)]"
        guard var object = value.object else { throw wrong(path, "an object") }
        if ItemReferences.isReference(object) {
          guard let id = object["id"]?.string else { throw wrong("\(path).id", "a string") }
          object = try references.item(id, path)
        }
        if let item = try item(object, path) { items.append(item) }
      }
      guard !items.isEmpty else { throw .invalid("'input' is empty", param: "input", code: "invalid_value") }
      return items
    default: throw fields.wrong("input", "a string or a list of items")
    }
  }

  private static func wrong(_ path: String, _ expected: String) -> APIError {
    .invalid("'\(path)' must be \(expected)", param: path, code: "invalid_type")
  }

  private static func unsupported(_ path: String, _ what: String) -> APIError {
    .invalid("\(what) is not supported by this server", param: path, code: "unsupported_parameter")
  }

  /// - Returns: `nil` for an item that changes nothing
  private static func item(_ object: JSONObject, _ path: String) throws(APIError) -> JSONValue? {
    func text(_ name: String) throws(APIError) -> String {
      guard let text = object[name]?.string else { throw wrong("\(path).\(name)", "a string") }
      return text
    }
    switch object["type"]?.string ?? (object["role"] == nil ? "" : "message") {
    case "message":
      let role = try text("role")
      guard roles.contains(role) else {
        throw .invalid(
          "'\(path).role' must be one of 'user', 'assistant', 'system' and 'developer'", param: "\(path).role",
          code: "invalid_value")
      }
      return message(role, try parts(object["content"], "\(path).content", role: role), id: object["id"]?.string)
    case "function_call":
      let arguments = try text("arguments")
      guard ChatMessage.areArguments(.string(arguments)) || arguments.isEmpty else {
        throw .invalid("'\(path).arguments' is no JSON object", param: "\(path).arguments", code: "invalid_value")
      }
      return call(
        id: object["id"]?.string, callID: try text("call_id"), name: try text("name"), arguments: arguments)
    case "function_call_output":
      let output: JSONValue
      switch object["output"] {
      case .string(let text): output = .string(text)
      case .array?: output = .array(try parts(object["output"], "\(path).output", role: "user"))
      default: throw wrong("\(path).output", "a string or a list of parts")
      }
      return [
        "id": .string(object["id"]?.string ?? RandomName.make("fco_", length: 24)), "type": "function_call_output",
        "call_id": .string(try text("call_id")), "output": output, "status": "completed",
      ]
    // What a model thought is not shown to it again.
    case "reasoning": return nil
    case "": throw wrong("\(path).type", "a string")
    case let type: throw unsupported("\(path).type", "An item of the type '\(type.excerpt(40))'")
    }
  }

  private static func parts(_ value: JSONValue?, _ path: String, role: String) throws(APIError) -> [JSONValue] {
    let type = role == "assistant" ? "output_text" : "input_text"
    func part(_ text: String) -> JSONValue {
      role == "assistant"
        ? ["type": .string(type), "text": .string(text), "annotations": []]
        : ["type": .string(type), "text": .string(text)]
    }
    switch value {
    case .string(let text): return [part(text)]
    case .array(let list):
      var parts: [JSONValue] = []
      for (index, value) in list.enumerated() {
        let path = "\(path)[\(index)]"
        guard let object = value.object else { throw wrong(path, "an object") }
        guard let type = object["type"]?.string else { throw wrong("\(path).type", "a string") }
        guard ["input_text", "output_text", "text", "refusal"].contains(type) else {
          throw .invalid(
            "content of the type '\(type.excerpt(40))' is not supported by this model, only text",
            param: "\(path).type", code: "unsupported_content_type")
        }
        let key = type == "refusal" ? "refusal" : "text"
        guard let text = object[key]?.string else { throw wrong("\(path).\(key)", "a string") }
        parts.append(part(text))
      }
      return parts
    default: throw wrong(path, "a string or a list of parts")
    }
  }

  // MARK: items

  /// A message item.
  /// - Parameter content: parts in the form of OpenAI's responses
  static func message(
    _ role: String, _ content: [JSONValue], id: String? = nil, status: String = "completed"
  ) -> JSONValue {
    [
      "id": .string(id ?? RandomName.make("msg_", length: 24)), "type": "message", "status": .string(status),
      "role": .string(role), "content": .array(content),
    ]
  }

  /// A function call's item.
  static func call(
    id: String?, callID: String, name: String, arguments: String, status: String = "completed"
  ) -> JSONValue {
    [
      "id": .string(id ?? RandomName.make("fc_", length: 24)), "type": "function_call", "status": .string(status),
      "arguments": .string(arguments), "call_id": .string(callID), "name": .string(name),
    ]
  }

  // MARK: the chat

  /// The messages of items, in the form of a chat's request. Calls that follow one another or a text of the assistant are
  /// one message.
  static func messages(_ items: [JSONValue]) -> [JSONValue] {
    var messages: [JSONValue] = []
    for item in items.compactMap(\.object) {
      switch item["type"] {
      case "message":
        let role = item["role"] ?? "user"
        messages.append(["role": role, "content": content(item["content"])])
      case "function_call":
        let call: JSONValue = [
          "id": item["call_id"] ?? .null, "type": "function",
          "function": ["name": item["name"] ?? "", "arguments": item["arguments"] ?? "{}"],
        ]
        let isOpen = messages.last?.object?["role"] == "assistant"
        let last = isOpen ? messages.removeLast().object : nil
        messages.append([
          "role": "assistant", "content": last?["content"] ?? .null,
          "tool_calls": .array((last?["tool_calls"]?.array ?? []) + [call]),
        ])
      case "function_call_output":
        messages.append([
          "role": "tool", "tool_call_id": item["call_id"] ?? .null, "content": content(item["output"]),
        ])
      default: break
      }
    }
    return messages
  }

  /// Content as a chat has it: a string where there is one part.
  private static func content(_ value: JSONValue?) -> JSONValue {
    guard let parts = value?.array else { return value ?? "" }
    let texts = parts.map { $0.object?["text"]?.string ?? "" }
    if texts.count < 2 { return .string(texts.first ?? "") }
    return .array(texts.map { ["type": "text", "text": .string($0)] })
  }
}
