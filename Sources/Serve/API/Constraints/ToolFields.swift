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

  private static let maximumTools = 128
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

  private static func tools(_ fields: RequestFields) throws(APIError) -> [JSONValue] {
    guard let value = fields["tools"] else { return [] }
    guard let list = value.array, list.count <= maximumTools else {
      throw fields.wrong("tools", "a list of at most \(maximumTools) tools")
    }
    for (index, tool) in list.enumerated() {
      let path = "tools[\(index)]"
      guard tool.object?["type"] == "function" else {
        throw .invalid("'\(path).type' must be 'function'", param: "\(path).type", code: "invalid_value")
      }
      guard let name = name(of: tool), !name.isEmpty, name.utf8.count <= maximumName else {
        throw .invalid(
          "'\(path).function.name' is missing, or over \(maximumName) bytes", param: "\(path).function.name",
          code: "missing_required_parameter")
      }
    }
    return list
  }

  /// Reads a choice that is an object: `{"type": "function", "function": {"name": …}}`, or
  /// `{"type": "allowed_tools", "allowed_tools": {"mode": "auto" or "required", "tools": [{"type": "function", …}, …]}}`.
  private mutating func readChoice(_ choice: JSONValue) throws(APIError) {
    let wrong = APIError.invalid(
      "'tool_choice' must be 'none', 'auto', 'required', or an object that names a function or 'allowed_tools'",
      param: "tool_choice", code: "invalid_value")
    if let name = Self.name(of: choice), choice.object?["type"] == "function" {
      allowed = [name]
      isNamed = true
      isRequired = true
      return
    }
    guard choice.object?["type"] == "allowed_tools", let limits = choice.object?["allowed_tools"]?.object,
      let mode = limits["mode"]?.string, mode == "auto" || mode == "required",
      let list = limits["tools"]?.array, !list.isEmpty, list.count <= Self.maximumTools
    else { throw wrong }
    let names = list.compactMap { $0.object?["type"] == "function" ? Self.name(of: $0) : nil }
    guard names.count == list.count else { throw wrong }
    allowed = Set(names)
    isRequired = mode == "required"
  }
}
