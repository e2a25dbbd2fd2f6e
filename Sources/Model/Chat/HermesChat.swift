import Formats

/// Which parts of a chat a template shows.
struct TemplateAbilities: Sendable, Equatable {
  /// The tools that are offered.
  var showsTools = false
  /// Past calls.
  var showsCalls = false
  /// The results of calls.
  var showsResults = false
  /// A system message.
  var showsSystem = true
  /// Two messages of the user behind one another.
  var takesNeighbours = true
  /// A message of the user behind a call's result.
  var takesQuestionsBehindResults = true
}

/// A chat for a template that does not show its tools, or its past calls: the definitions stand in the system message, in
/// the words of the Hermes models, which many others have learnt too, and calls and results in the messages' texts.
///
/// A template that shows no system message gets its text with the first message of the user. One whose roles must alternate
/// gets neighbours of one role as one message, and where it shows results, an answer between a result and a question behind it:
/// a loop that ends with a call, or that its user interrupts, leaves none.
///
/// https://github.com/NousResearch/Hermes-Function-Calling
struct HermesChat {
  /// The chat as the template gets it.
  private(set) var chat: Conversation
  /// The index that each message has in the given chat; `nil` for one that is new. Of joined messages it is the last one's.
  private(set) var indices: [Int?]
  /// What was put differently, for a person.
  private(set) var warnings: [String] = []

  /// - Parameter form: of calls in an assistant's text
  /// - Returns: `nil` if the template shows the chat as it is
  init?(_ chat: Conversation, for template: TemplateAbilities, _ form: ToolCallForm = .tagged) {
    let addsDefinitions = !chat.tools.isEmpty && !template.showsTools
    // Calls that the model sees are in the form that it is told to write, and their results, too.
    let writesCalls =
      (addsDefinitions || !template.showsCalls) && chat.messages.contains { !Self.calls($0).isEmpty }
    let writesResults =
      (addsDefinitions || !template.showsResults || !template.showsCalls && !template.showsTools)
      && chat.messages.contains { $0.object?["role"] == "tool" }
    let roles = chat.messages.map { $0.object?["role"] }
    let addsAnswers =
      !writesResults && !template.takesQuestionsBehindResults
      && zip(roles, roles.dropFirst()).contains { $0 == "tool" && $1 == "user" }
    guard addsDefinitions || writesCalls || writesResults || addsAnswers else { return nil }
    self.chat = chat
    if !template.showsTools { self.chat.tools = [] }
    indices = Array(chat.messages.indices)
    var place = "system message"
    for index in chat.messages.indices {
      if writesCalls { self.chat.messages[index] = Self.withCallsAsText(chat.messages[index], form) }
      if writesResults { self.chat.messages[index] = Self.withResultAsText(self.chat.messages[index]) }
    }
    if addsDefinitions {
      if template.showsSystem {
        addToSystem(Self.instructions(chat.tools))
      } else {
        place = "first user message"
        addToUser(Self.instructions(chat.tools))
      }
    }
    if addsAnswers {
      addAnswers()
      warnings.append(
        "The chat template takes no user message behind a tool's result: the assistant's answer '\(Self.answer)' stands "
          + "between them.")
    }
    let texts = "in the messages' texts"
    if addsDefinitions {
      warnings.append(
        "The chat template does not show tools: their definitions are in the \(place)"
          + (writesCalls ? ", and earlier calls \(texts)" : "") + ", in the form of Hermes.")
    } else if writesCalls || writesResults {
      warnings.append(
        "The chat template does not show past tool calls\(writesCalls ? "" : "' results"): they are \(texts).")
    } else {
      return
    }
    if !template.takesNeighbours { joinNeighbours() }
  }

  // MARK: definitions

  private static func instructions(_ tools: [JSONValue]) -> String {
    """
    # Tools

    You may call one or more functions to assist with the user query.

    You are provided with function signatures within <tools></tools> XML tags:
    <tools>
    \(tools.map(\.spacedJSON).joined(separator: "\n"))
    </tools>

    For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
    <tool_call>
    {"name": <function-name>, "arguments": <args-json-object>}
    </tool_call>
    """
  }

  private var beginsWithSystem: Bool { ["system", "developer"].contains(chat.messages.first?.object?["role"]?.string) }

  private mutating func addToSystem(_ instructions: String) {
    if beginsWithSystem {
      chat.messages[0] = Self.message(
        chat.messages[0].object?["role"]?.string ?? "system", Self.joined([Self.text(chat.messages[0]), instructions]))
    } else {
      insert(Self.message("system", instructions))
    }
  }

  private mutating func addToUser(_ instructions: String) {
    var texts = [instructions]
    if beginsWithSystem {
      texts.insert(Self.text(chat.messages.removeFirst()), at: 0)
      indices.removeFirst()
    }
    if let first = chat.messages.firstIndex(where: { $0.object?["role"] == "user" }) {
      chat.messages[first] = Self.with(Self.joined(texts + [Self.text(chat.messages[first])]), chat.messages[first])
    } else {
      insert(Self.message("user", Self.joined(texts)))
    }
  }

  private mutating func insert(_ message: JSONValue) {
    chat.messages.insert(message, at: 0)
    indices.insert(nil, at: 0)
  }

  // MARK: past calls

  private static func calls(_ message: JSONValue) -> [JSONObject] {
    (message.object?["tool_calls"]?.array ?? []).compactMap { $0.object?["function"]?.object }
  }

  /// Calls become text of the assistant.
  private static func withCallsAsText(_ message: JSONValue, _ form: ToolCallForm) -> JSONValue {
    let calls = calls(message)
    if calls.isEmpty { return message }
    let texts = calls.map { call in
      let name = (call["name"] ?? .null).spacedJSON
      let arguments = call["arguments"]?.string ?? (call["arguments"] ?? [:]).spacedJSON
      let json = "{\"name\": \(name), \"arguments\": \(arguments)}"
      return form == .bare ? json : "<tool_call>\n\(json)\n</tool_call>"
    }
    let content = text(message)
    return self.message("assistant", ((content.isEmpty ? [] : [content]) + texts).joined(separator: "\n"))
  }

  /// A call's result becomes a message of the user.
  private static func withResultAsText(_ message: JSONValue) -> JSONValue {
    guard message.object?["role"] == "tool" else { return message }
    return self.message("user", "<tool_response>\n\(text(message))\n</tool_response>")
  }

  // MARK: neighbours

  /// What client programs say in the assistant's place, too.
  private static let answer = "OK"

  private mutating func addAnswers() {
    var (messages, kept): ([JSONValue], [Int?]) = ([], [])
    for (message, index) in zip(chat.messages, indices) {
      if message.object?["role"] == "user", messages.last?.object?["role"] == "tool" {
        messages.append(Self.message("assistant", Self.answer))
        kept.append(nil)
      }
      messages.append(message)
      kept.append(index)
    }
    (chat.messages, indices) = (messages, kept)
  }

  private mutating func joinNeighbours() {
    var (messages, kept): ([JSONValue], [Int?]) = ([], [])
    // Of the last message and of the neighbours that it is joined with. Joining them at once copies each only once.
    var texts: [String] = []
    func joinLast() {
      guard texts.count > 1, let first = messages.popLast() else { return }
      messages.append(Self.with(Self.joined(texts), first))
    }
    for (message, index) in zip(chat.messages, indices) {
      if let last = messages.last, Self.canJoin(last, message) {
        texts.append(Self.text(message))
        kept[kept.count - 1] = index
      } else {
        joinLast()
        messages.append(message)
        kept.append(index)
        texts = [Self.text(message)]
      }
    }
    joinLast()
    (chat.messages, indices) = (messages, kept)
  }

  private static func canJoin(_ message: JSONValue, _ next: JSONValue) -> Bool {
    let role = message.object?["role"]
    return role == next.object?["role"] && (role == "user" || role == "assistant") && calls(message).isEmpty
      && calls(next).isEmpty
  }

  // MARK: messages and texts

  private static func message(_ role: String, _ text: String) -> JSONValue {
    ["role": .string(role), "content": .string(text)]
  }

  /// The message with another text.
  private static func with(_ text: String, _ message: JSONValue) -> JSONValue {
    let pairs = (message.object?.pairs ?? []).filter { $0.key != "content" }
    return .object(JSONObject(keepingFirst: pairs + [("content", .string(text))]))
  }

  private static func joined(_ texts: [String]) -> String {
    texts.filter { !$0.isEmpty }.joined(separator: "\n\n")
  }

  /// The text of a message.
  private static func text(_ message: JSONValue) -> String {
    switch message.object?["content"] {
    case .string(let text): text
    case .array(let parts): ChatMessage.text(ofParts: parts)
    default: ""
    }
  }
}
