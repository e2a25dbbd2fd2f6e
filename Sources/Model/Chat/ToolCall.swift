import Formats

/// A tool call that a model has written.
public struct ToolCall: Sendable, Equatable {
  /// The tool's name.
  public var name: String
  /// A JSON object, as text.
  public var arguments: String

  /// - Parameters: as the properties
  public init(name: String, arguments: String) {
    self.name = name
    self.arguments = arguments
  }
}

/// The form in which a model family writes its calls.
public enum ToolCallForm: Hashable, Sendable {
  /// `<tool_call>{"name": …, "arguments": {…}}</tool_call>` anywhere in the text: Hermes, Qwen.
  case tagged
  /// JSON objects at the end of the answer, with space, line breaks or semicolons between them, or a list of them: Llama 3.
  case bare
  /// Between marks of the template's own: Mistral, functionary and others.
  case marked(CallMarks)
}

extension ToolCall {
  /// Reads one call as models write it: `name` with `arguments` or `parameters`, or both within `function`. `nil` if the
  /// value is no call.
  /// - Parameter names: of the tools that were offered
  init?(_ value: JSONValue, names: Set<String>) {
    guard let outer = value.object else { return nil }
    let object = outer["function"]?.object ?? outer
    guard let name = object["name"]?.string, names.contains(name) else { return nil }
    switch object["arguments"] ?? object["parameters"] {
    case nil, .null: self.init(name: name, arguments: "{}")
    case .object(let arguments):
      self.init(name: name, arguments: String(decoding: JSONValue.object(arguments).encoded, as: UTF8.self))
    // A string of JSON, as in OpenAI's API.
    case .string(let text):
      guard let parsed = try? JSONValue.parseKeepingLast(Array(text.utf8), subject: "call"), parsed.object != nil else {
        return nil
      }
      self.init(name: name, arguments: text)
    default: return nil
    }
  }

  /// `nil` if the text is no JSON, or no call.
  init?(json: ArraySlice<UInt8>, names: Set<String>) {
    guard let value = try? JSONValue.parseKeepingLast(json, subject: "call") else { return nil }
    self.init(value, names: names)
  }
}
