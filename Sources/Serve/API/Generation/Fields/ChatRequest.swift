import Tokenization
import Formats
import Grammars
import Model

/// The body of `POST /v1/chat/completions`.
enum ChatRequest {
  /// Parses and checks the body's fields, and renders its messages.
  /// - Throws: `APIError`, 400, that names the field
  static func parse(
    _ fields: RequestFields, context: ServerContext, prompts tokenizer: PromptTokenizer
  ) throws(APIError) -> AnswerRequest {
    var request = try AnswerRequest(fields, context.tokenizer)
    request.options.topLogprobs = try logprobCount(fields)
    request.showsLogprobs = request.options.topLogprobs != nil
    try request.readCandidates(fields)
    let tools = try ToolFields(fields)
    let text = try ConstraintFields(fields).constraint
    let chat = try conversation(fields, tools)
    let format = try context.chatFormat()
    let calls = tools.constraint(format.toolCallForm, text: text?.value)
    // A stop string may cut a call, which is text then.
    request.shape = ChatShape(
      tools: tools.shown.isEmpty ? nil : (format.toolCallForm, tools.names),
      callsAreCertain: calls?.makesCallsCertain == true && request.options.stop.isEmpty)
    if !tools.shown.isEmpty { request.options.shownTokens = format.callTokens }
    request.options.endTokens.formUnion(format.endTokens)
    let limit = try maxTokens(fields, context.contextLength)
    let kept = try fields.promptTokensKept(context.contextLength, answer: limit ?? 1)
    let prompt = try tokenizer.keepingLast(kept).encode(chat, format)
    request.warnings = prompt.warnings
    request.prompts = [prompt.tokens]
    if let limit {
      request.options.maxTokens = limit
    } else {
      request.options.maxTokens = try maxTokens(behind: prompt.tokens.count, context)
    }
    try request.check(contextLength: context.contextLength, promptField: "messages")
    // Last, because compiling takes the longest.
    if let constraint = try constraint(text, calls, context.grammars) {
      request.options.constraint = constraint.grammar
      request.warnings += constraint.warnings
    }
    return request
  }

  /// `max_completion_tokens`, or else `max_tokens`.
  private static func maxTokens(_ fields: RequestFields, _ contextLength: Int) throws(APIError) -> Int? {
    let older = try fields.integer("max_tokens", in: 1...contextLength)
    return try fields.integer("max_completion_tokens", in: 1...contextLength) ?? older
  }

  /// As many tokens as fit into the context behind a prompt.
  private static func maxTokens(behind prompt: Int, _ context: ServerContext) throws(APIError) -> Int {
    guard prompt < context.contextLength else {
      throw .exceedsContext(context.contextLength, prompt: prompt, completion: 0, param: "messages")
    }
    return max(min(context.contextLength, context.engine.positionLimit) - prompt, 1)
  }

  private static func logprobCount(_ fields: RequestFields) throws(APIError) -> Int? {
    let isWanted = try fields.bool("logprobs") ?? false
    let top = try fields.integer("top_logprobs", in: 0...20)
    guard isWanted || top == nil || top == 0 else {
      throw .invalid("'top_logprobs' needs 'logprobs' to be true", param: "top_logprobs", code: "invalid_value")
    }
    return isWanted ? top ?? 0 : nil
  }

  /// What the answer must follow; `nil` where it is free.
  /// - Parameters:
  ///   - text: what the answer must be if it is no call
  ///   - calls: what its calls must be
  private static func constraint(
    _ text: ConstraintFields.Constraint?, _ calls: ToolConstraint?, _ grammars: GrammarCache
  ) throws(APIError) -> CompiledConstraint? {
    if let calls {
      return try grammars.compiled(calls, param: text?.param ?? "tools")
    }
    guard let text else { return nil }
    return try grammars.compiled(text.value, param: text.param)
  }

  /// Reads the messages and the template's variables.
  static func conversation(_ fields: RequestFields, _ tools: ToolFields) throws(APIError) -> Conversation {
    var chat = Conversation(messages: try ChatMessages.read(fields))
    chat.tools = tools.shown
    chat.continuesFinalMessage = try fields.bool("continue_final_message") ?? false
    let addsPrompt = try fields.bool("add_generation_prompt")
    if addsPrompt == true, chat.continuesFinalMessage {
      throw .invalid(
        "'continue_final_message' and 'add_generation_prompt' exclude one another", param: "continue_final_message",
        code: "invalid_value")
    }
    chat.addsGenerationPrompt = addsPrompt ?? !chat.continuesFinalMessage
    if let value = fields["chat_template_kwargs"] {
      guard let object = value.object else { throw fields.wrong("chat_template_kwargs", "an object") }
      chat.variables = object
    }
    return chat
  }
}

extension ServerContext {
  /// The model's chat format, or a 400 that says why there is none.
  func chatFormat() throws(APIError) -> ChatFormat {
    do throws(ModelError) { return try chat.get() } catch {
      throw .invalid(
        "This model cannot chat: \(error). Use /v1/completions instead.", param: "messages", code: "no_chat_template")
    }
  }
}

extension ChatFormatError {
  /// A 400 with the template's own message.
  var apiError: APIError { .invalid(message, param: "messages", code: "invalid_chat") }
}

extension Conversation {
  /// Bytes of the messages' texts. The prompt is at least as long.
  var textBytes: Int {
    func bytes(_ value: JSONValue?) -> Int {
      switch value {
      case .string(let text): text.utf8.count
      case .array(let values): values.reduce(0) { $0 + bytes($1) }
      case .object(let object): object.pairs.reduce(0) { $0 + bytes($1.value) }
      default: 0
      }
    }
    return messages.reduce(0) { $0 + bytes($1.object?["content"]) }
  }
}
