import Formats
import Model

/// Checks the `messages` of a chat, and puts them into the form that templates read.
enum ChatMessages {
  /// Fields that are read, and fields that are ignored because clients send answers back with them.
  private static let messageFields = [
    "annotations", "audio", "content", "function_call", "name", "reasoning", "reasoning_content", "refusal", "role",
    "tool_call_id", "tool_calls", "weight",
  ]

  /// - Throws: `APIError`, 400, that names the message and its field
  static func read(_ fields: RequestFields) throws(APIError) -> [JSONValue] {
    guard let value = fields["messages"] else { throw fields.missing("messages") }
    guard let list = value.array else { throw fields.wrong("messages", "a list of messages") }
    guard !list.isEmpty else { throw .invalid("'messages' is empty", param: "messages", code: "invalid_value") }
    var messages: [JSONValue] = []
    messages.reserveCapacity(list.count)
    for (index, value) in list.enumerated() {
      messages.append(try message(RequestFields(value, at: "messages[\(index)]")))
    }
    return messages
  }

  private static func message(_ fields: RequestFields) throws(APIError) -> JSONValue {
    let role = try fields.requiredString("role")
    guard ChatMessage.roles.contains(role) else {
      throw .invalid(
        "Invalid value: '\(role.excerpt(40))'. Supported values are: 'system', 'developer', 'user', 'assistant' and "
          + "'tool'.", param: fields.path("role"), code: "invalid_value")
    }
    try fields.checkNames(messageFields)
    if let value = fields["prefix"], value.bool != false {
      let path = fields.path("prefix")
      throw .invalid(
        "'\(path)' is not supported by this server; 'continue_final_message' goes on with the last message",
        param: path, code: "unsupported_parameter")
    }
    let calls = role == "assistant" ? try toolCalls(fields) : []
    var message = ChatMessage(role: role, content: try content(fields, isOptional: role == "assistant"))
    message.toolCalls = calls
    for field in ChatMessage.textFields {
      if let text = try fields.string(field) { message.texts.append((field, .string(text))) }
    }
    if role == "tool" { _ = try fields.requiredString("tool_call_id") }
    if role == "assistant" {
      for name in ["function_call", "audio"] { try fields.refuse(name) { _ in false } }
      if fields["content"] == nil, calls.isEmpty, fields["refusal"]?.string == nil { throw fields.missing("content") }
    }
    return message.json
  }

  /// A string, or a list of text parts.
  private static func content(_ fields: RequestFields, isOptional: Bool) throws(APIError) -> JSONValue {
    switch fields["content"] {
    case nil:
      if isOptional { return "" }
      throw fields.missing("content")
    case .string(let text): return .string(text)
    case .array(let parts):
      var texts: [JSONValue] = []
      for (index, part) in parts.enumerated() {
        let part = try RequestFields(part, at: "\(fields.path("content"))[\(index)]")
        let type = try part.requiredString("type")
        guard type == "text" || type == "refusal" else {
          throw .invalid(
            "content of the type '\(type.excerpt(40))' is not supported by this model, only 'text'",
            param: part.path("type"), code: "unsupported_content_type")
        }
        // A refusal that the client sends back is text like any other.
        texts.append(["type": "text", "text": .string(try part.requiredString(type))])
      }
      return .array(texts)
    default: throw fields.wrong("content", "a string or a list of parts")
    }
  }

  /// Tool calls. Their arguments are an object or, as in OpenAI's API, a string with one.
  private static func toolCalls(_ fields: RequestFields) throws(APIError) -> [JSONValue] {
    guard let value = fields["tool_calls"] else { return [] }
    guard let list = value.array else { throw fields.wrong("tool_calls", "a list") }
    var calls: [JSONValue] = []
    for (index, value) in list.enumerated() {
      let call = try RequestFields(value, at: "\(fields.path("tool_calls"))[\(index)]")
      if let type = call["type"], type != "function" {
        throw .invalid("'\(call.path("type"))' must be 'function'", param: call.path("type"), code: "invalid_value")
      }
      let function = try call.required("function")
      let name = try function.requiredString("name")
      var arguments: JSONValue = .object(JSONObject(keepingFirst: []))
      switch function["arguments"] {
      case .string(let text) where !text.utf8.allSatisfy({ $0 <= 0x20 }):
        guard ChatMessage.areArguments(.string(text)) else {
          let path = function.path("arguments")
          throw .invalid("'\(path)' is no JSON object", param: path, code: "invalid_value")
        }
        arguments = .string(text)
      case .object(let object): arguments = .object(object)
      case nil, .string: break
      default: throw function.wrong("arguments", "a string of JSON")
      }
      calls.append(ChatMessage.toolCall(id: call["id"]?.string, name: name, arguments: arguments))
    }
    return calls
  }
}
