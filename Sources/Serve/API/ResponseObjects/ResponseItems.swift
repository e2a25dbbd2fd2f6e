import Formats
import Model

/// The items of a response's input, and the chat that they are.
enum ResponseItems {
  private static let roles = ["user", "assistant", "system", "developer"]
  private static let statuses = ["in_progress", "completed", "incomplete"]

  /// Reads `input`: a string, or a list of items. A reference is replaced by the item that it names.
  /// - Parameter earlier: the items of the conversation that the request continues
  /// - Returns: the items in the form in which they are stored, each with an id
  /// - Throws: `APIError`, 400, that names the item and its field; 404 for a reference to an item that is not kept
  static func read(
    _ fields: RequestFields, references: ItemReferences, after earlier: [JSONValue]
  ) throws(APIError) -> [JSONValue] {
    guard let value = fields["input"] else {
      throw .invalid("'input' is missing", param: "input", code: "missing_required_parameter")
    }
    switch value {
    case .string(let text):
      return [message("user", [["type": "input_text", "text": .string(text)]])]
    case .array(let values):
      var items: [JSONValue] = []
      var references = references
      var calls = Set(earlier.compactMap(callID))
      for (index, value) in values.enumerated() {
        let path = "input[\(index)]"
        var members = try RequestFields(value, at: path)
        if let object = value.object, ItemReferences.isReference(object) {
          members = RequestFields(try references.item(try members.requiredName("id"), path), of: path)
        }
        guard let item = try Self.item(members) else { continue }
        if let call = callID(item) { calls.insert(call) }
        try checkOutput(item, of: calls, path)
        items.append(item)
      }
      guard !items.isEmpty else { throw .invalid("'input' is empty", param: "input", code: "invalid_value") }
      return items
    default: throw fields.wrong("input", "a string or a list of items")
    }
  }

  /// The id of the call that an item is; `nil` for other items.
  private static func callID(_ item: JSONValue) -> String? {
    guard let object = item.object, object["type"] == "function_call" else { return nil }
    return object["call_id"]?.string
  }

  /// Refuses an output whose call the model is not shown. A chat template could not place it.
  private static func checkOutput(_ item: JSONValue, of calls: Set<String>, _ path: String) throws(APIError) {
    guard let object = item.object, object["type"] == "function_call_output" else { return }
    let id = object["call_id"]?.string ?? ""
    guard !calls.contains(id) else { return }
    throw .invalid(
      "No tool call found for function call output with call_id '\(id.excerpt(80))': '\(path)' needs a 'function_call' "
        + "before it, in 'input' or in the response that is continued", param: "\(path).call_id", code: "invalid_value")
  }

  /// - Returns: `nil` for an item that changes nothing
  private static func item(_ item: RequestFields) throws(APIError) -> JSONValue? {
    let type = try item.string("type") ?? (item["role"] == nil ? nil : "message")
    guard let type else { throw item.missing("type") }
    let id = try item.string("id")
    switch type {
    case "message":
      try item.checkNames(["type", "role", "content", "id", "status", "phase"])
      let role = try item.requiredString("role")
      try item.check("role", isOneOf: roles)
      try item.check("status", isOneOf: statuses)
      return message(role, try parts(item, "content", role: role), id: id)
    case "function_call":
      try item.checkNames(["type", "id", "call_id", "name", "arguments", "status"])
      try item.check("status", isOneOf: statuses)
      let arguments = try item.requiredString("arguments")
      // No template can show the model a call that was cut.
      if item["status"] == "incomplete", !ChatMessage.areArguments(.string(arguments)) { return nil }
      guard ChatMessage.areArguments(.string(arguments)) || arguments.isEmpty else {
        let path = item.path("arguments")
        throw .invalid("'\(path)' is no JSON object", param: path, code: "invalid_value")
      }
      return call(
        id: id, callID: try item.requiredName("call_id"), name: try item.requiredName("name"), arguments: arguments)
    case "function_call_output":
      try item.checkNames(["type", "id", "call_id", "output", "status"])
      try item.check("status", isOneOf: statuses)
      let output: JSONValue
      if let text = item["output"]?.string {
        output = .string(text)
      } else {
        output = .array(try parts(item, "output", role: "user"))
      }
      return [
        "id": .string(id ?? RandomName.make("fco_", length: 24)), "type": "function_call_output",
        "call_id": .string(try item.requiredName("call_id")), "output": output, "status": "completed",
      ]
    // What a model thought is not shown to it again.
    case "reasoning":
      try item.checkLists("summary", "content")
      _ = try item.string("encrypted_content")
      try item.check("status", isOneOf: statuses)
      return nil
    default:
      throw .invalid(
        "An item of the type '\(type.excerpt(40))' is not supported by this server", param: item.path("type"),
        code: "unsupported_parameter")
    }
  }

  /// Reads text, or a list of parts with text.
  private static func parts(_ item: RequestFields, _ name: String, role: String) throws(APIError) -> [JSONValue] {
    func part(_ text: String) -> JSONValue {
      role == "assistant"
        ? ["type": "output_text", "text": .string(text), "annotations": []]
        : ["type": "input_text", "text": .string(text)]
    }
    switch item[name] {
    case .string(let text): return [part(text)]
    case .array(let list):
      var parts: [JSONValue] = []
      for (index, value) in list.enumerated() {
        let members = try RequestFields(value, at: "\(item.path(name))[\(index)]")
        let type = try members.requiredString("type")
        guard ["input_text", "output_text", "text", "refusal"].contains(type) else {
          throw .invalid(
            "content of the type '\(type.excerpt(40))' is not supported by this model, only text",
            param: members.path("type"), code: "unsupported_content_type")
        }
        try members.checkNames(["type", "text", "refusal", "annotations", "logprobs"])
        try members.checkLists("annotations", "logprobs")
        parts.append(part(try members.requiredString(type == "refusal" ? "refusal" : "text")))
      }
      return parts
    case nil: throw item.missing(name)
    default: throw item.wrong(name, "a string or a list of parts")
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

  /// Whether an item is a call whose arguments the answer's end has cut.
  static func isCut(_ item: JSONValue) -> Bool {
    guard let object = item.object, object["type"] == "function_call", object["status"] == "incomplete" else {
      return false
    }
    return !ChatMessage.areArguments(object["arguments"] ?? .null)
  }

  // MARK: the chat

  /// The messages of items, in the form of a chat's request. Calls that follow one another or a text of the assistant are
  /// one message.
  static func messages(_ items: [JSONValue]) -> [JSONValue] {
    var messages: [JSONValue] = []
    // Those that follow the last message.
    var calls: [JSONValue] = []
    func addCalls() {
      if calls.isEmpty { return }
      let isOpen = messages.last?.object?["role"] == "assistant"
      let content = isOpen ? messages.removeLast().object?["content"] : nil
      messages.append(["role": "assistant", "content": content ?? .null, "tool_calls": .array(calls)])
      calls = []
    }
    for item in items.compactMap(\.object) {
      switch item["type"] {
      case "message":
        addCalls()
        messages.append(["role": item["role"] ?? "user", "content": content(item["content"])])
      case "function_call":
        calls.append([
          "id": item["call_id"] ?? .null, "type": "function",
          "function": ["name": item["name"] ?? "", "arguments": item["arguments"] ?? "{}"],
        ])
      case "function_call_output":
        addCalls()
        messages.append([
          "role": "tool", "tool_call_id": item["call_id"] ?? .null, "content": content(item["output"]),
        ])
      default: break
      }
    }
    addCalls()
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
