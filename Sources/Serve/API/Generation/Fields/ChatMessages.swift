import Formats
import Model

/// Checks the `messages` of a chat, and puts them into the form that templates read.
enum ChatMessages {
  /// Fields that are read, and fields that are ignored because clients send answers back with them.
  private static let messageFields: Set<String> = [
    "role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content", "reasoning", "refusal",
    "function_call",
    "audio", "annotations", "weight",
  ]

  /// - Throws: `APIError`, 400, that names the message and its field
  static func read(_ fields: RequestFields) throws(APIError) -> [JSONValue] {
    guard let value = fields["messages"] else {
      throw .invalid("'messages' is missing", param: "messages", code: "missing_required_parameter")
    }
    guard let list = value.array else { throw fields.wrong("messages", "a list of messages") }
    guard !list.isEmpty else { throw .invalid("'messages' is empty", param: "messages", code: "invalid_value") }
    var messages: [JSONValue] = []
    messages.reserveCapacity(list.count)
    for (index, value) in list.enumerated() {
      let path = "messages[\(index)]"
      guard let object = value.object else { throw wrong(path, "an object") }
      messages.append(try message(object, path))
    }
    return messages
  }

  private static func wrong(_ path: String, _ expected: String) -> APIError {
    .invalid("'\(path)' must be \(expected)", param: path, code: "invalid_type")
  }

  private static func message(_ object: JSONObject, _ path: String) throws(APIError) -> JSONValue {
    guard let role = object["role"]?.string else {
      if object["role"] == nil {
        throw .invalid("'\(path).role' is missing", param: "\(path).role", code: "missing_required_parameter")
      }
      throw wrong("\(path).role", "a string")
    }
    guard ChatMessage.roles.contains(role) else {
      throw .invalid(
        "Invalid value: '\(role.excerpt(40))'. Supported values are: 'system', 'developer', 'user', 'assistant' and "
          + "'tool'.", param: "\(path).role", code: "invalid_value")
    }
    for key in object.keys where !messageFields.contains(key) {
      if let meant = NearNames.nearest(key, among: messageFields.sorted()) {
        throw RequestFields(object, of: path).misspelt(key, meant)
      }
      if key == "prefix", let value = object[key], !value.isNull, value.bool != false {
        throw .invalid(
          "'\(path).prefix' is not supported by this server; 'continue_final_message' goes on with the last message",
          param: "\(path).prefix", code: "unsupported_parameter")
      }
    }
    let calls = role == "assistant" ? try toolCalls(object["tool_calls"], "\(path).tool_calls") : []
    var message = ChatMessage(
      role: role, content: try content(object["content"], "\(path).content", isOptional: role == "assistant"))
    message.toolCalls = calls
    for field in ChatMessage.textFields {
      guard let value = object[field], !value.isNull else { continue }
      guard value.string != nil else { throw wrong("\(path).\(field)", "a string") }
      message.texts.append((field, value))
    }
    if role == "tool", object["tool_call_id"]?.string == nil {
      throw .invalid(
        "'\(path).tool_call_id' is missing", param: "\(path).tool_call_id", code: "missing_required_parameter")
    }
    if role == "assistant" {
      for name in ["function_call", "audio"] where object[name].map(\.isNull) == false {
        throw .invalid(
          "'\(path).\(name)' is not supported by this server", param: "\(path).\(name)", code: "unsupported_parameter")
      }
      if object["content"].map(\.isNull) ?? true, calls.isEmpty, object["refusal"]?.string == nil {
        throw .invalid("'\(path).content' is missing", param: "\(path).content", code: "missing_required_parameter")
      }
    }
    return message.json
  }

  /// A string, or a list of text parts.
  private static func content(_ value: JSONValue?, _ path: String, isOptional: Bool) throws(APIError) -> JSONValue {
    switch value {
    case nil, .null:
      if isOptional { return "" }
      throw .invalid("'\(path)' is missing", param: path, code: "missing_required_parameter")
    case .string(let text): return .string(text)
    case .array(let parts):
      var texts: [JSONValue] = []
      for (index, part) in parts.enumerated() {
        let path = "\(path)[\(index)]"
        guard let object = part.object else { throw wrong(path, "an object") }
        guard let type = object["type"]?.string else { throw wrong("\(path).type", "a string") }
        // A refusal that the client sends back is text like any other.
        let key = type == "refusal" ? "refusal" : "text"
        guard type == "text" || type == "refusal" else {
          throw .invalid(
            "content of the type '\(type.excerpt(40))' is not supported by this model, only 'text'",
            param: "\(path).type", code: "unsupported_content_type")
        }
        guard let text = object[key]?.string else { throw wrong("\(path).\(key)", "a string") }
        texts.append(["type": "text", "text": .string(text)])
      }
      return .array(texts)
    default: throw wrong(path, "a string or a list of parts")
    }
  }

  /// Tool calls. Their arguments are an object or, as in OpenAI's API, a string with one.
  private static func toolCalls(_ value: JSONValue?, _ path: String) throws(APIError) -> [JSONValue] {
    guard let value, !value.isNull else { return [] }
    guard let list = value.array else { throw wrong(path, "a list") }
    var calls: [JSONValue] = []
    for (index, call) in list.enumerated() {
      let path = "\(path)[\(index)]"
      guard let object = call.object else { throw wrong(path, "an object") }
      if let type = object["type"], !type.isNull, type != "function" {
        throw .invalid("'\(path).type' must be 'function'", param: "\(path).type", code: "invalid_value")
      }
      guard let function = object["function"]?.object else { throw wrong("\(path).function", "an object") }
      guard let name = function["name"]?.string else { throw wrong("\(path).function.name", "a string") }
      let field = "\(path).function.arguments"
      var arguments: JSONValue = .object(JSONObject(keepingFirst: []))
      switch function["arguments"] {
      case .string(let text) where !text.utf8.allSatisfy({ $0 <= 0x20 }):
        guard ChatMessage.areArguments(.string(text)) else {
          throw .invalid("'\(field)' is no JSON object", param: field, code: "invalid_value")
        }
        arguments = .string(text)
      case .object(let object): arguments = .object(object)
      case nil, .null, .string: break
      default: throw wrong(field, "a string of JSON")
      }
      calls.append(ChatMessage.toolCall(id: object["id"]?.string, name: name, arguments: arguments))
    }
    return calls
  }
}
