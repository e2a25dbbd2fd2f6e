import Formats
import Model

/// The body of `POST /v1/responses`. It becomes a chat's request, which is parsed, rendered and answered as all chats are;
/// only the form of the answer is another.
struct ResponseRequest {
  /// Fields that a chat has under the same name.
  private static let sameFields = [
    "model", "adapter", "temperature", "top_p", "stream", "top_k", "min_p", "repetition_penalty", "presence_penalty",
    "frequency_penalty", "logit_bias", "seed", "stop", "stop_token_ids", "ignore_eos", "timeout",
    "chat_template_kwargs", "min_tokens", "bad_words", "repeat_penalty", "repeat_last_n", "truncate_prompt_tokens",
  ]
  /// The names that errors of a chat's fields have here.
  private static let names = [
    ("max_completion_tokens", "max_output_tokens"), ("response_format.json_schema", "text.format"),
    ("response_format", "text.format"), ("tool_choice.allowed_tools", "tool_choice"),
    ("tool_choice.function", "tool_choice"),
  ]

  private let fields: RequestFields
  private let input: [JSONValue]
  /// The items of earlier responses.
  private let earlier: [JSONValue]
  /// The memory of both, which the answer holds until it is stored.
  private let held: [HeldMemory]

  /// Parses and checks a body's fields, and renders its input.
  /// - Parameter memory: what the client may hold of the conversation
  /// - Throws: `APIError`: 400, that names the field, or 503 if there is no memory for the conversation
  static func parse(
    _ fields: RequestFields, context: ServerContext, memory: MemoryShare, prompts: PromptTokenizer
  ) throws(APIError) -> AnswerRequest {
    let request = try ResponseRequest(fields, context.responses, memory)
    let chat = try request.chatFields()
    let messages = request.instructions + ResponseItems.messages(request.earlier + request.input)
    let isCut = try request.mayCut()
    do throws(APIError) {
      var parsed = try request.parse(messages, chat, isCut: isCut, context, prompts)
      parsed.shape = try request.shape(parsed, context)
      return parsed
    } catch { throw renamed(error) }
  }

  private init(_ fields: RequestFields, _ store: ResponseStore, _ memory: MemoryShare) throws(APIError) {
    self.fields = fields
    let id = try fields.string("previous_response_id")
    var held: [HeldMemory] = []
    var bytes = 0
    if let id {
      guard let (previous, context) = try store.readContext(of: id, holding: memory) else {
        throw .invalid(
          "Previous response with id '\(id.excerpt(80))' not found.", param: "previous_response_id",
          code: "previous_response_not_found")
      }
      held.append(context)
      bytes = context.bytes
      earlier = previous
    } else {
      earlier = []
    }
    input = try ResponseItems.read(
      fields,
      references: ItemReferences(fields["input"], earlier: earlier, store: store, memory: memory), after: earlier)
    let inputBytes = JSONValue.array(input).encoded.count
    bytes += inputBytes
    held.append(try memory.hold(inputBytes))
    self.held = held
    guard id == nil || bytes <= StoredResponse.maximumContext else {
      throw .invalid(
        "The conversation has \(bytes) bytes of items, of which at most \(StoredResponse.maximumContext) are kept; begin "
          + "a new one", param: "previous_response_id", code: "context_length_exceeded")
    }
  }

  // MARK: the chat

  private var instructions: [JSONValue] {
    guard let text = fields["instructions"]?.string else { return [] }
    return [["role": "system", "content": .string(text)]]
  }

  private func mayCut() throws(APIError) -> Bool {
    switch try fields.string("truncation") {
    case nil, "disabled": return false
    case "auto": return true
    default: throw .invalid("'truncation' must be 'auto' or 'disabled'", param: "truncation", code: "invalid_value")
    }
  }

  /// The fields of the chat's request but for its messages.
  private func chatFields() throws(APIError) -> [String: JSONValue] {
    _ = try fields.string("instructions")
    var chat: [String: JSONValue] = [:]
    for name in Self.sameFields { chat[name] = fields[name] }
    // A model that is null is an error, as in chats.
    if fields.contains("model"), fields["model"] == nil { chat["model"] = .null }
    if let count = try fields.integer("max_output_tokens", in: 1...Int(Int32.max)) {
      chat["max_completion_tokens"] = .integer(count)
    }
    if try includesLogprobs() {
      chat["logprobs"] = true
      chat["top_logprobs"] = .integer(try fields.integer("top_logprobs", in: 0...20) ?? 0)
    } else {
      try fields.refuse("top_logprobs") { $0.integer == 0 }
    }
    let tools = try tools()
    if !tools.isEmpty {
      chat["tools"] = .array(tools)
      chat["parallel_tool_calls"] = fields["parallel_tool_calls"]
      chat["tool_choice"] = try toolChoice()
    } else if fields["tool_choice"] != nil, fields["tool_choice"] != "auto", fields["tool_choice"] != "none" {
      throw .invalid("'tool_choice' needs 'tools'", param: "tool_choice", code: "invalid_value")
    }
    if let format = try format() { chat["response_format"] = format }
    return chat
  }

  private func includesLogprobs() throws(APIError) -> Bool {
    guard let value = fields["include"] else { return false }
    guard let list = value.array else { throw fields.wrong("include", "a list") }
    // Without reasoning, no content of it is left out.
    let empty: [JSONValue] = ["reasoning.encrypted_content"]
    if let other = list.first(where: { $0 != "message.output_text.logprobs" && !empty.contains($0) }) {
      throw .invalid(
        "'include' of '\(String(decoding: other.encoded.prefix(60), as: UTF8.self))' is not supported by this server",
        param: "include", code: "unsupported_parameter")
    }
    return list.contains("message.output_text.logprobs")
  }

  /// The tools in the form of chats.
  private func tools() throws(APIError) -> [JSONValue] {
    guard let value = fields["tools"] else { return [] }
    guard let list = value.array else { throw fields.wrong("tools", "a list of tools") }
    var tools: [JSONValue] = []
    for (index, tool) in list.enumerated() {
      let path = "tools[\(index)]"
      let members = try RequestFields(tool, at: path)
      guard members["type"] == "function" else {
        throw .invalid(
          "A tool of the type '\(members["type"]?.string?.excerpt(40) ?? "")' is not supported by this server, only "
            + "'function'", param: "\(path).type", code: "unsupported_parameter")
      }
      let function = ["name", "description", "parameters", "strict"].compactMap { key in
        members[key].map { (key: key, value: $0) }
      }
      tools.append(["type": "function", "function": .object(JSONObject(keepingFirst: function))])
    }
    return tools
  }

  private func toolChoice() throws(APIError) -> JSONValue? {
    guard let object = fields["tool_choice"]?.object else { return fields["tool_choice"] }
    switch object["type"] {
    case "allowed_tools":
      var tools = object["tools"] ?? .null
      if let list = tools.array { tools = .array(list.map(Self.namedFunction)) }
      return ["type": "allowed_tools", "allowed_tools": ["mode": object["mode"] ?? .null, "tools": tools]]
    case "function": return Self.namedFunction(.object(object))
    default:
      throw .invalid(
        "'tool_choice' must be 'none', 'auto', 'required', a function or 'allowed_tools'", param: "tool_choice",
        code: "unsupported_parameter")
    }
  }

  /// `{"type": "function", "name": …}` in the form of chats, whose fields are checked.
  private static func namedFunction(_ value: JSONValue) -> JSONValue {
    guard let object = value.object else { return value }
    return ["type": object["type"] ?? .null, "function": ["name": object["name"] ?? .null]]
  }

  /// `text.format` as a chat's `response_format`, which decides what is supported; `nil` for plain text.
  private func format() throws(APIError) -> JSONValue? {
    guard let format = try fields.object("text")?.object("format") else { return nil }
    let type = try format.string("type")
    guard type == "json_schema" else {
      if let type, format["schema"] != nil { throw format.mismatch("schema", type: type) }
      return ["type": format["type"] ?? .null]
    }
    let schema = ["name", "description", "schema", "strict"].compactMap { key in
      format[key].map { (key: key, value: $0) }
    }
    return ["type": "json_schema", "json_schema": .object(JSONObject(keepingFirst: schema))]
  }

  /// Parses the chat's request.
  /// - Parameter isCut: whether the first messages are left out if the chat is too long
  private func parse(
    _ messages: [JSONValue], _ chat: [String: JSONValue], isCut: Bool, _ context: ServerContext,
    _ prompts: PromptTokenizer
  ) throws(APIError) -> AnswerRequest {
    func parse(leavingOut count: Int) throws(APIError) -> AnswerRequest {
      var chat = chat
      // An answer to a call does not stand without it.
      let kept = messages.dropFirst(instructions.count + count).drop { $0.object?["role"] == "tool" }
      chat["messages"] = .array(instructions + kept)
      let object = JSONObject(keepingFirst: chat.map { (key: $0.key, value: $0.value) })
      return try ChatRequest.parse(RequestFields(object), context: context, prompts: prompts)
    }
    /// `nil` if the rest is too long, too.
    func attempt(_ count: Int) throws(APIError) -> AnswerRequest? {
      do throws(APIError) { return try parse(leavingOut: count) } catch {
        if error.code == "context_length_exceeded" { return nil }
        throw error
      }
    }
    let maximum = messages.count - instructions.count - 1
    guard isCut, maximum > 0 else { return try parse(leavingOut: 0) }
    if let whole = try attempt(0) { return whole }
    // The least that must be left out, by bisection.
    var (low, high) = (1, maximum)
    while low < high {
      let middle = (low + high) / 2
      if try attempt(middle) == nil { low = middle + 1 } else { high = middle }
    }
    return try parse(leavingOut: low)
  }

  /// An error of the chat's request, with the names that its fields have here.
  private static func renamed(_ error: APIError) -> APIError {
    var error = error
    // A message's position is another than its item's.
    if error.param?.hasPrefix("messages") == true { error.param = "input" }
    error.message = error.message.replacing("'messages", with: "'input")
    for (chat, here) in names {
      error.message = error.message.replacing("'\(chat)", with: "'\(here)")
      if let param = error.param, param.hasPrefix(chat) { error.param = here + param.dropFirst(chat.count) }
    }
    if let param = error.param, param.hasPrefix("tool") {
      error.param = param.replacing("].function", with: "]")
      error.message = error.message.replacing("].function", with: "]")
    }
    return error
  }

  // MARK: the answer

  private func shape(_ parsed: AnswerRequest, _ context: ServerContext) throws(APIError) -> ResponseShape {
    guard let chat = parsed.shape as? ChatShape else { preconditionFailure("a chat has a chat's shape") }
    let storesResponse = try fields.bool("store") ?? true
    let sampling = parsed.options.sampling
    let text = fields["text"]?.object?["format"] ?? ["type": "text"]
    let settings: [(key: String, value: JSONValue)] = [
      ("instructions", fields["instructions"] ?? .null),
      ("max_output_tokens", fields["max_output_tokens"] ?? .null), ("max_tool_calls", .null),
      ("metadata", try fields.metadata().map { .object($0) } ?? [:]),
      ("parallel_tool_calls", fields["parallel_tool_calls"] ?? true),
      ("previous_response_id", fields["previous_response_id"] ?? .null),
      ("reasoning", ["effort": .null, "summary": .null]), ("service_tier", "default"),
      ("store", .bool(storesResponse && context.responses.isOn)),
      ("temperature", .logprob(sampling.temperature)), ("text", ["format": text]),
      ("tool_choice", fields["tool_choice"] ?? "auto"), ("tools", fields["tools"] ?? []),
      ("top_logprobs", .integer(parsed.showsLogprobs ? parsed.options.topLogprobs ?? 0 : 0)),
      ("top_p", .logprob(sampling.topP)), ("truncation", fields["truncation"] ?? "disabled"),
      ("user", fields["user"] ?? .null),
    ]
    return ResponseShape(
      chat: chat, settings: settings, input: input, earlier: earlier, memory: held,
      store: storesResponse && context.responses.isOn ? context.responses : nil)
  }
}
