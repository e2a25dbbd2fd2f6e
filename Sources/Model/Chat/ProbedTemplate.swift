import Formats
internal import Template

/// A chat template and what it can read. Templates differ in that, and are asked at start by rendering a message of each
/// kind; chats are put as the template reads them.
struct ProbedTemplate: Sendable {
  private let engine: ChatTemplateEngine
  private let specialTokens: [(key: String, value: JSONValue)]
  /// Whether `content` may be a list of parts, and whether it may be a string.
  private var takesParts = false
  private var takesText = true
  private let knowsDeveloper: Bool
  private var callForm = CallForm()

  /// How a message with tool calls is put.
  private struct CallForm {
    /// What stands for content that is missing or empty: "", null, or no `content` at all.
    var content: JSONValue? = .string("")
    /// Arguments are a string of JSON, else an object.
    var argumentsAreText = false
  }

  /// - Parameter specialTokens: variables of every rendering: `bos_token`, `eos_token`
  /// - Throws: `ModelError` that names `name` and the template's line
  init(_ source: String, specialTokens: [(key: String, value: JSONValue)], name: String) throws(ModelError) {
    engine = try ChatTemplateEngine(source, name: name)
    self.specialTokens = specialTokens
    knowsDeveloper = source.contains("developer")
    probeContent()
    probeCalls()
  }

  /// The whole chat, and which bytes of it came from where.
  func rendering(_ chat: Conversation) throws(ChatFormatError) -> Rendering {
    try engine.rendering(variables(chat, chat.messages.map(adapted)))
  }

  private func variables(_ chat: Conversation, _ messages: [JSONValue]) -> JSONObject {
    var variables: [(key: String, value: JSONValue)] = [
      ("messages", .array(messages)), ("tools", chat.tools.isEmpty ? .null : .array(chat.tools)),
      ("documents", .null), ("add_generation_prompt", .bool(chat.addsGenerationPrompt && !chat.continuesFinalMessage)),
    ]
    // Of equal keys the first stays.
    variables += chat.variables.pairs
    variables += specialTokens
    return JSONObject(keepingFirst: variables)
  }

  // MARK: a message as the template reads it

  private func adapted(_ message: JSONValue) -> JSONValue {
    guard let object = message.object else { return message }
    let calls = object["tool_calls"]?.array ?? []
    var pairs: [(key: String, value: JSONValue)] = []
    for (key, value) in object.pairs {
      switch (key, value) {
      case ("role", "developer") where !knowsDeveloper: pairs.append((key, "system"))
      case ("content", .null) where !calls.isEmpty, ("content", "") where !calls.isEmpty: break
      case ("content", .array(let parts)) where !takesParts:
        pairs.append((key, .string(parts.compactMap { $0.object?["text"]?.string }.joined(separator: "\n"))))
      case ("content", .string) where !takesText: pairs.append((key, [["type": "text", "text": value]]))
      case ("tool_calls", .array): pairs.append((key, .array(calls.map(adaptedCall))))
      default: pairs.append((key, value))
      }
    }
    if !calls.isEmpty, let content = callForm.content { pairs.append(("content", content)) }
    return .object(JSONObject(keepingFirst: pairs))
  }

  private func adaptedCall(_ call: JSONValue) -> JSONValue {
    call.replacing("function") { function in
      function.replacing("arguments") { arguments in
        switch arguments {
        case .object where callForm.argumentsAreText: .string(arguments.spacedJSON)
        case .string(let text) where !callForm.argumentsAreText:
          (try? JSONValue.parse(Array(text.utf8), subject: "arguments")) ?? arguments
        default: arguments
        }
      }
    }
  }

  // MARK: probes

  static let marker = "GraftMarker7"
  private static let argument = "GraftMarker8"

  private func text(_ messages: [JSONValue], tools: [JSONValue] = []) -> String? {
    // The messages are as the template is to see them.
    try? engine.rendering(variables(Conversation(messages: messages, tools: tools), messages)).text
  }

  private mutating func probeContent() {
    func shows(_ content: JSONValue) -> Bool {
      guard let text = text([["role": "user", "content": content]]), text.contains(Self.marker) else { return false }
      // Some print a list as it is.
      return !text.contains("'text'") && !text.contains("\"text\"")
    }
    takesText = shows(.string(Self.marker))
    takesParts = shows([["type": "text", "text": .string(Self.marker)]])
    if !takesText, !takesParts { takesText = true }
  }

  /// Finds the form in which a past call shows best, of equal ones the first.
  private mutating func probeCalls() {
    var best = Int.max
    for content: JSONValue? in [.string(""), .null, nil] {
      for argumentsAreText in [false, true] {
        let form = CallForm(content: content, argumentsAreText: argumentsAreText)
        guard let rank = rank(form), rank < best else { continue }
        best = rank
        callForm = form
      }
    }
  }

  /// How well a call in that form shows, 0 best; `nil` where its name or an argument does not.
  private func rank(_ form: CallForm) -> Int? {
    let arguments: JSONValue = .object(JSONObject(keepingFirst: [(Self.argument, .string(Self.argument + "Value"))]))
    let call: JSONValue = [
      "id": "abcdef123", "type": "function",
      "function": [
        "name": .string(Self.marker), "arguments": form.argumentsAreText ? .string(arguments.spacedJSON) : arguments,
      ],
    ]
    var pairs: [(key: String, value: JSONValue)] = [("role", "assistant"), ("tool_calls", [call])]
    if let content = form.content { pairs.append(("content", content)) }
    let user: JSONValue = ["role": "user", "content": takesText ? "Hi" : [["type": "text", "text": "Hi"]]]
    let asked = [user, .object(JSONObject(keepingFirst: pairs))]
    let result: JSONValue = ["role": "tool", "tool_call_id": "abcdef123", "name": .string(Self.marker), "content": "1"]
    let tool: JSONValue = [
      "type": "function",
      "function": [
        "name": "graft_probe", "description": "Hi",
        "parameters": ["type": "object", "properties": [:], "required": []],
      ],
    ]
    func shown(_ messages: [JSONValue]) -> String? {
      guard let text = text(messages, tools: [tool]), text.contains(Self.marker),
        text.contains(Self.argument + "Value")
      else { return nil }
      return text
    }
    guard let text = shown(asked) ?? shown(asked + [result]) else { return nil }
    // A missing content that is printed.
    let printsNone = form.content != "" && text.contains("None") ? 4 : 0
    if form.argumentsAreText {
      // Strings of JSON that are put into JSON once more have their quotes escaped.
      return (text.contains("\"\(Self.argument)\":") ? 1 : 3) + printsNone
    }
    // An object printed as Python does is no JSON.
    return (text.contains("'\(Self.argument)'") ? 2 : 0) + printsNone
  }
}

extension JSONValue {
  /// The object with another value under a key that it has; any other value as it is.
  fileprivate func replacing(_ key: String, _ change: (JSONValue) -> JSONValue) -> JSONValue {
    guard let object, object[key] != nil else { return self }
    return .object(JSONObject(keepingFirst: object.pairs.map { ($0.key, $0.key == key ? change($0.value) : $0.value) }))
  }

  /// JSON with spaces behind commas and colons, as Python's `json.dumps` writes it and templates' `tojson` too.
  var spacedJSON: String {
    switch self {
    case .array(let values): "[" + values.map(\.spacedJSON).joined(separator: ", ") + "]"
    case .object(let object):
      "{"
        + object.pairs.map { JSONValue.string($0.key).spacedJSON + ": " + $0.value.spacedJSON }.joined(separator: ", ")
        + "}"
    default: String(decoding: encoded, as: UTF8.self)
    }
  }
}
