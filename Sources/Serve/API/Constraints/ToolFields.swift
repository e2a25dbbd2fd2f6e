import Formats
import Model

/// The tools of a chat, and whether they must be called: `tools`, `tool_choice` and `parallel_tool_calls`.
struct ToolFields {
  /// The definitions that the model is shown; none where the answer must not call any.
  private(set) var shown: [JSONValue] = []
  private(set) var isRequired = false
  private(set) var isParallel = true
  /// The names of the tools that may be called; `nil` for all.
  private var allowed: Set<String>?
  /// Whether `tool_choice` names one function.
  private var isNamed = false

  static let maximumTools = 128
  private static let maximumName = 128

  /// - Throws: `APIError`, 400, that names the field
  init(_ fields: RequestFields) throws(APIError) {
    let tools = try Self.tools(fields)
    isParallel = try fields.bool("parallel_tool_calls") ?? true
    guard let choice = fields["tool_choice"] else {
      shown = tools
      return
    }
    switch choice {
    case "none": return
    case "auto": break
    case "required": isRequired = true
    default: try readChoice(choice)
    }
    guard !tools.isEmpty else {
      throw .invalid("'tool_choice' needs 'tools'", param: "tool_choice", code: "invalid_value")
    }
    if let missing = allowed?.subtracting(tools.compactMap(Self.name(of:))).min() {
      throw .invalid(
        "'tool_choice' names '\(missing.excerpt(80))', which is not among 'tools'", param: "tool_choice",
        code: "invalid_value")
    }
    shown = tools
  }

  /// The names of the tools that may be called.
  var names: Set<String> {
    let names = Set(shown.compactMap(Self.name(of:)))
    return allowed.map(names.intersection) ?? names
  }

  /// What the answer's calls must be; `nil` where the model is free to write any.
  /// - Parameter text: what the text must be, where the answer is no call
  func constraint(_ form: ToolCallForm, text: TextConstraint?) -> ToolConstraint? {
    let functions = shown.enumerated().compactMap { index, tool -> ToolConstraint.Tool? in
      guard let function = tool.object?["function"]?.object, let name = function["name"]?.string,
        allowed?.contains(name) != false
      else { return nil }
      let parameters = function["parameters"].flatMap { $0.isNull ? nil : $0 }
      return ToolConstraint.Tool(
        name: name, parameters: parameters.map { String(decoding: $0.encoded, as: UTF8.self) },
        isStrict: function["strict"]?.bool == true, index: index)
    }
    guard !functions.isEmpty,
      isRequired || !isParallel || text != nil || allowed != nil || functions.contains(where: \.isStrict)
    else { return nil }
    return ToolConstraint(
      tools: functions, form: form, isRequired: isRequired, isParallel: isParallel && !isNamed, text: text)
  }

  private static func name(of tool: JSONValue) -> String? { tool.object?["function"]?.object?["name"]?.string }

  /// The definitions, of which every member that is read has its type, and every function a name of its own.
  private static func tools(_ fields: RequestFields) throws(APIError) -> [JSONValue] {
    guard let value = fields["tools"] else { return [] }
    guard let list = value.array, list.count <= maximumTools else {
      throw fields.wrong("tools", "a list of at most \(maximumTools) tools")
    }
    var indices: [String: Int] = [:]
    for (index, tool) in list.enumerated() {
      let path = "tools[\(index)]"
      let function = try Self.function(tool, path)
      let name = try function.requiredString("name")
      guard (1...maximumName).contains(name.utf8.count) else {
        throw .invalid(
          "'\(path).function.name' must have 1 to \(maximumName) bytes", param: "\(path).function.name",
          code: "invalid_value")
      }
      if let first = indices.updateValue(index, forKey: name) {
        throw .invalid(
          "'\(path).function.name' is '\(name.excerpt(80))', as is 'tools[\(first)].function.name'",
          param: "\(path).function.name", code: "invalid_value")
      }
      _ = try function.string("description")
      _ = try function.bool("strict")
      if let parameters = function["parameters"], parameters.object == nil, parameters.bool == nil {
        throw function.wrong("parameters", "a JSON Schema: an object")
      }
    }
    return list
  }

  /// The members of the function in `{"type": "function", "function": {…}}`.
  private static func function(_ value: JSONValue, _ path: String) throws(APIError) -> RequestFields {
    let fields = try RequestFields(value, at: path)
    guard try fields.string("type") == "function" else {
      throw .invalid("'\(path).type' must be 'function'", param: "\(path).type", code: "invalid_value")
    }
    return try fields.required("function")
  }

  /// Reads a choice that is an object: `{"type": "function", "function": {"name": …}}`, or
  /// `{"type": "allowed_tools", "allowed_tools": {"mode": "auto" or "required", "tools": [{"type": "function", …}, …]}}`.
  private mutating func readChoice(_ choice: JSONValue) throws(APIError) {
    let path = "tool_choice"
    guard let object = choice.object, ["function", "allowed_tools"].contains(object["type"]?.string) else {
      throw .invalid(
        "'\(path)' must be 'none', 'auto', 'required', or an object that names a function or 'allowed_tools'",
        param: path, code: "invalid_value")
    }
    guard object["type"] == "allowed_tools" else {
      allowed = [try Self.function(choice, path).requiredString("name")]
      isNamed = true
      isRequired = true
      return
    }
    let limits = try RequestFields(object, of: path).required("allowed_tools")
    switch try limits.string("mode") {
    case "auto": break
    case "required": isRequired = true
    default:
      throw .invalid(
        "'\(path).allowed_tools.mode' must be 'auto' or 'required'", param: "\(path).allowed_tools.mode",
        code: "invalid_value")
    }
    guard let list = limits["tools"]?.array, (1...Self.maximumTools).contains(list.count) else {
      throw limits.wrong("tools", "a list of 1 to \(Self.maximumTools) functions")
    }
    var names: Set<String> = []
    for (index, item) in list.enumerated() {
      let function = try Self.function(item, "\(path).allowed_tools.tools[\(index)]")
      names.insert(try function.requiredString("name"))
    }
    allowed = names
  }
}
