public import Formats

/// A chat's message in the form that templates read. Requests and training data check their own messages, and both make
/// this of them.
public struct ChatMessage {
  /// The roles that a message can have.
  public static let roles = ["system", "developer", "user", "assistant", "tool"]
  /// Text fields beside `role` and `content` that templates read.
  public static let textFields = ["name", "tool_call_id", "reasoning_content"]

  /// One of `roles`.
  public var role: String
  /// A string, or a list of text parts.
  public var content: JSONValue
  /// Values of `textFields` that the message has, in their order.
  public var texts: [(field: String, value: JSONValue)] = []
  /// In the form of `toolCall`.
  public var toolCalls: [JSONValue] = []

  /// - Parameters: as the properties
  public init(role: String, content: JSONValue) {
    self.role = role
    self.content = content
  }

  /// The object that templates read.
  public var json: JSONValue {
    var pairs: [(key: String, value: JSONValue)] = [("role", .string(role)), ("content", content)]
    pairs += texts.map { (key: $0.field, value: $0.value) }
    if !toolCalls.isEmpty { pairs.append(("tool_calls", .array(toolCalls))) }
    return .object(JSONObject(keepingFirst: pairs))
  }

  /// A tool call in the form that templates read.
  /// - Parameter arguments: an object, or a string with one
  public static func toolCall(id: String?, name: String, arguments: JSONValue) -> JSONValue {
    var pairs: [(key: String, value: JSONValue)] = [("type", "function")]
    if let id { pairs.insert(("id", .string(id)), at: 0) }
    pairs.append(("function", ["name": .string(name), "arguments": arguments]))
    return .object(JSONObject(keepingFirst: pairs))
  }

  /// The text parts of a content as one text, a line or more for each.
  static func text(ofParts parts: [JSONValue]) -> String {
    parts.compactMap { $0.object?["text"]?.string }.joined(separator: "\n")
  }

  /// Whether a call's arguments are an object, or a string with one. Models write objects in which a key comes twice.
  public static func areArguments(_ value: JSONValue) -> Bool {
    guard let text = value.string else { return value.object != nil }
    return (try? JSONValue.parseKeepingLast(Array(text.utf8), subject: "arguments"))?.object != nil
  }
}
