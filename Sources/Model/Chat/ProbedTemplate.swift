import Formats
internal import Template

/// A chat template, and the forms of messages that it can read. Templates differ in them, so each form is tried at start by
/// rendering a message; messages of chats are then put into a form that the template reads.
struct ProbedTemplate: Sendable {
  private let engine: ChatTemplateEngine
  private let specialTokens: [(key: String, value: JSONValue)]
  /// The template reads a `content` that is a list of parts.
  private var takesParts = false
  /// The template reads a `content` that is a string.
  private var takesText = true
  /// The template mentions the role "developer"; for other templates it becomes "system".
  private let knowsDeveloper: Bool
  private var callForm = CallForm()
  /// The template takes calls with ids of any form; else only with nine letters and digits, as Mistral's have.
  private var takesAnyID = true
  private(set) var abilities = TemplateAbilities()
  /// What the template makes of a chat that ends in calls; `nil` if it shows none.
  private(set) var callSamples: CallSamples?
  /// The template shows one call of a message, but not two.
  private var refusesSeveralCalls: Bool { callSamples != nil && callSamples?.two == nil }

  /// The form of a message with tool calls.
  private struct CallForm {
    /// The `content` of a message whose content is missing or empty: "", null, or no `content` at all.
    var content: JSONValue? = .string("")
    /// Whether arguments are a string of JSON, else an object.
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
    probeAbilities()
    sampleCalls()
  }

  /// The whole chat as text, and which bytes of it came from which message or tool.
  /// - Parameter splitsCalls: calls of one message become messages of their own if the template refuses them together
  func rendering(_ chat: Conversation, splitsCalls: Bool) throws(ChatFormatError) -> Rendering {
    guard splitsCalls, mustSplitCalls(of: chat) else {
      return try engine.rendering(variables(chat, chat.messages.map(adapted)))
    }
    let single = SingleCalls(chat.messages)
    return try engine.rendering(variables(chat, single.messages.map(adapted))).renumbered(single.indices)
  }

  /// Whether a message has calls that the template refuses together.
  func mustSplitCalls(of chat: Conversation) -> Bool {
    refusesSeveralCalls && chat.messages.contains { ($0.object?["tool_calls"]?.array?.count ?? 0) > 1 }
  }

  private func variables(_ chat: Conversation, _ messages: [JSONValue]) -> JSONObject {
    var variables: [(key: String, value: JSONValue)] = [
      ("messages", .array(messages)), ("tools", chat.tools.isEmpty ? .null : .array(chat.tools)),
      ("documents", .null), ("add_generation_prompt", .bool(chat.addsGenerationPrompt && !chat.continuesFinalMessage)),
    ]
    // `keepingFirst`: a chat's own variables cannot replace these.
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
        pairs.append((key, .string(ChatMessage.text(ofParts: parts))))
      case ("content", .string) where !takesText: pairs.append((key, [["type": "text", "text": value]]))
      case ("tool_calls", .array): pairs.append((key, .array(calls.map(adaptedCall))))
      case ("tool_call_id", _): pairs.append((key, adaptedID(value)))
      default: pairs.append((key, value))
      }
    }
    if !calls.isEmpty, let content = callForm.content { pairs.append(("content", content)) }
    return .object(JSONObject(keepingFirst: pairs))
  }

  private func adaptedCall(_ call: JSONValue) -> JSONValue {
    call.replacing("id", adaptedID).replacing("function") { function in
      function.replacing("arguments") { arguments in
        switch arguments {
        case .object where callForm.argumentsAreText: .string(arguments.spacedJSON)
        case .string(let text) where !callForm.argumentsAreText:
          (try? JSONValue.parseKeepingLast(Array(text.utf8), subject: "arguments")) ?? arguments
        default: arguments
        }
      }
    }
  }

  /// The id of a call, the same in the call and in its result.
  private func adaptedID(_ value: JSONValue) -> JSONValue {
    guard !takesAnyID, let id = value.string else { return value }
    let isTaken = id.count == 9 && id.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber) }
    var hash = SHA256()
    hash.update(id)
    return .string(isTaken ? id : String(hash.finish().prefix(9)))
  }

  // MARK: probes

  /// A text that no template contains.
  static let marker = "GraftMarker7"
  private static let argument = "GraftMarker8"

  private func text(_ messages: [JSONValue], tools: [JSONValue] = [], asks: Bool = true) -> String? {
    let chat = Conversation(messages: messages, tools: tools, addsGenerationPrompt: asks)
    // Not `rendering`, which would put the messages into another form.
    return try? engine.rendering(variables(chat, messages)).text
  }

  private mutating func probeContent() {
    func shows(_ content: JSONValue) -> Bool {
      guard let text = text([["role": "user", "content": content]]), text.contains(Self.marker) else { return false }
      // A template that does not know parts may print the list itself.
      return !text.contains("'text'") && !text.contains("\"text\"")
    }
    takesText = shows(.string(Self.marker))
    takesParts = shows([["type": "text", "text": .string(Self.marker)]])
    if !takesText, !takesParts { takesText = true }
  }

  /// Finds the form in which the template shows past calls best; of equal ones the first.
  private mutating func probeCalls() {
    var best = Int.max
    for content: JSONValue? in [.string(""), .null, nil] {
      for argumentsAreText in [false, true] {
        let form = CallForm(content: content, argumentsAreText: argumentsAreText)
        guard let rank = rank(form), rank < best else { continue }
        best = rank
        callForm = form
        abilities.showsCalls = true
      }
    }
  }

  private mutating func probeAbilities() {
    func shows(_ messages: [JSONValue], tools: [JSONValue] = []) -> Bool {
      text(messages, tools: tools)?.contains(Self.marker) ?? false
    }
    let tools = [Self.tool(named: Self.marker)]
    abilities.showsTools = shows([asking], tools: tools)
    abilities.showsSystem = shows([message("system", Self.marker), asking])
    let answer = abilities.showsCalls ? calling("graft_probe", form: callForm) : message("assistant", "Yes")
    let answered = [asking, answer, result(named: "graft_probe", Self.marker)]
    let openAIs = "call_" + String(repeating: "a1", count: 12)
    takesAnyID =
      text([asking, calling("graft_probe", ids: [openAIs], form: callForm)]) != nil
      || text([asking, calling("graft_probe", form: callForm)]) == nil
    let probe = [Self.tool(named: "graft_probe")]
    abilities.showsResults = shows(answered, tools: probe)
    abilities.takesQuestionsBehindResults =
      text(answered + [asking], tools: probe) != nil
      || text(answered + [message("assistant", "Yes"), asking], tools: probe) == nil
    abilities.takesNeighbours = text([asking]) == nil || text([asking, asking]) != nil
  }

  /// A user's message that every template reads.
  private var asking: JSONValue { message("user", "Hi") }

  private func message(_ role: String, _ text: String) -> JSONValue {
    ["role": .string(role), "content": takesText ? .string(text) : [["type": "text", "text": .string(text)]]]
  }

  private static let callID = "abcdef123"

  private func result(named name: String, _ text: String) -> JSONValue {
    ["role": "tool", "tool_call_id": .string(Self.callID), "name": .string(name), "content": .string(text)]
  }

  /// An assistant's message with calls.
  private func calling(_ names: String..., ids: [String] = [Self.callID], form: CallForm) -> JSONValue {
    let arguments: JSONValue = .object(JSONObject(keepingFirst: [(Self.argument, .string(Self.argument + "Value"))]))
    let calls = zip(names, ids).map { name, id in
      ChatMessage.toolCall(
        id: id, name: name, arguments: form.argumentsAreText ? .string(arguments.spacedJSON) : arguments)
    }
    var pairs: [(key: String, value: JSONValue)] = [("role", "assistant"), ("tool_calls", .array(calls))]
    if let content = form.content { pairs.append(("content", content)) }
    return .object(JSONObject(keepingFirst: pairs))
  }

  private mutating func sampleCalls() {
    let names = [Self.marker, "GraftMarker9"]
    let ids = [Self.callID, "abcdef124"]
    let tools = [Self.tool(named: "graft_probe")]
    func chat(_ message: JSONValue) -> String? { text([asking, message], tools: tools, asks: false) }
    guard abilities.showsCalls, let answer = chat(message("assistant", "GraftMarker6")),
      let one = chat(calling(names[0], form: callForm))
    else { return }
    let two = chat(calling(names[0], names[1], ids: ids, form: callForm))
    callSamples = CallSamples(
      prompt: text([asking], tools: tools), answer: answer, one: one,
      two: two.flatMap { text in names.allSatisfy(text.contains) ? text : nil }, names: names, ids: ids,
      argument: Self.argument)
  }

  private static func tool(named name: String) -> JSONValue {
    [
      "type": "function",
      "function": [
        "name": .string(name), "description": "Hi",
        "parameters": ["type": "object", "properties": [:], "required": []],
      ],
    ]
  }

  /// How well the template shows a call in this form, 0 for best; `nil` if the call's name or an argument is not shown.
  private func rank(_ form: CallForm) -> Int? {
    let asked = [asking, calling(Self.marker, form: form)]
    func shown(_ messages: [JSONValue]) -> String? {
      guard let text = text(messages, tools: [Self.tool(named: "graft_probe")]), text.contains(Self.marker),
        text.contains(Self.argument + "Value")
      else { return nil }
      return text
    }
    guard let text = shown(asked) ?? shown(asked + [result(named: Self.marker, "1")]) else { return nil }
    // The template prints a missing content.
    let printsNone = form.content != "" && text.contains("None") ? 4 : 0
    if form.argumentsAreText {
      // A template that encodes the string as JSON once more escapes its quotes.
      return (text.contains("\"\(Self.argument)\":") ? 1 : 3) + printsNone
    }
    // A template may print an object as Python would, which is not JSON.
    return (text.contains("'\(Self.argument)'") ? 2 : 0) + printsNone
  }
}

extension JSONValue {
  /// The object with another value of a key that it has; anything else stays as it is.
  fileprivate func replacing(_ key: String, _ change: (JSONValue) -> JSONValue) -> JSONValue {
    guard let object, object[key] != nil else { return self }
    return .object(JSONObject(keepingFirst: object.pairs.map { ($0.key, $0.key == key ? change($0.value) : $0.value) }))
  }

  /// JSON with a space after each comma and colon, as Python's `json.dumps` and the templates' `tojson` write it.
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
