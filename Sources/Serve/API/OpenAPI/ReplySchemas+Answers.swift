import Formats

/// What the model answers.
extension ReplySchemas {
  static let answers: [Pair] = [
    ("Usage", usage), ("ToolCall", toolCall(more: [])), ("ChatCompletion", chat), ("ChatCompletionChunk", chatChunk),
    ("Completion", completion), ("Embeddings", embeddings), ("Item", item), ("Response", response),
    ("ResponseEvent", event), ("Items", list("Item")),
  ]

  private static let reasons = Schema.oneOf("stop", "length", "tool_calls")

  private static let usage = Schema.object([
    ("prompt_tokens", Schema.integer), ("completion_tokens", Schema.integer), ("total_tokens", Schema.integer),
    ("prompt_tokens_details", Schema.object([("cached_tokens", Schema.integer)])),
  ])

  private static func head(_ object: String) -> [Pair] {
    [
      ("id", Schema.string), ("object", Schema.constant(.string(object))), ("created", Schema.integer),
      ("model", Schema.string), ("system_fingerprint", Schema.string),
    ]
  }

  private static func toolCall(more: [Pair]) -> JSONValue {
    Schema.object(
      more + [
        ("id", Schema.string), ("type", Schema.constant("function")),
        ("function", Schema.object([("name", Schema.string), ("arguments", Schema.string)])),
      ])
  }

  // MARK: chats and completions

  private static let chatLogprobs: JSONValue = {
    let token: [Pair] = [
      ("token", Schema.string), ("logprob", Schema.number), ("bytes", Schema.list(of: Schema.integer(0...255))),
    ]
    let content = Schema.object(token + [("top_logprobs", Schema.list(of: Schema.object(token)))])
    return Schema.nullable(Schema.object([("content", Schema.list(of: content)), ("refusal", ["type": "null"])]))
  }()

  /// vLLM's `prompt_logprobs`: an entry for each token of the prompt.
  private static let promptLogprobs: Pair = {
    let entry = Schema.object([
      ("logprob", Schema.number), ("rank", Schema.integer(1...Int(Int32.max))), ("decoded_token", Schema.string),
    ])
    return ("prompt_logprobs", Schema.list(of: Schema.nullable(Schema.map(of: entry))))
  }()

  private static let chat: JSONValue = {
    let message = Schema.object(
      [
        ("role", Schema.constant("assistant")), ("content", Schema.nullable(Schema.string)),
        ("refusal", ["type": "null"]),
      ], optional: [("tool_calls", Schema.list(of: Schema.reference("ToolCall")))])
    let choice = Schema.object([
      ("index", Schema.integer), ("message", message), ("logprobs", chatLogprobs), ("finish_reason", reasons),
    ])
    return Schema.object(
      head("chat.completion") + [("choices", Schema.list(of: choice)), ("usage", Schema.reference("Usage"))],
      optional: [promptLogprobs])
  }()

  private static let chatChunk: JSONValue = {
    let index = (key: "index", value: Schema.integer)
    let more = Schema.object([index, ("function", Schema.object([("arguments", Schema.string)]))])
    let delta = Schema.object(
      [],
      optional: [
        ("role", Schema.constant("assistant")), ("content", Schema.string), ("refusal", ["type": "null"]),
        ("tool_calls", Schema.list(of: Schema.either(toolCall(more: [index]), more))),
      ])
    let choice = Schema.object([
      ("index", Schema.integer), ("delta", delta), ("logprobs", chatLogprobs),
      ("finish_reason", Schema.nullable(reasons)),
    ])
    return Schema.object(
      head("chat.completion.chunk") + [("choices", Schema.list(of: choice))],
      optional: [("usage", Schema.nullable(Schema.reference("Usage")))])
  }()

  private static let completion: JSONValue = {
    let logprobs = Schema.object([
      ("tokens", Schema.list(of: Schema.string)),
      ("token_logprobs", Schema.list(of: Schema.nullable(Schema.number))),
      ("top_logprobs", Schema.list(of: Schema.nullable(Schema.map(of: Schema.number)))),
      ("text_offset", Schema.list(of: Schema.integer)),
    ])
    let choice = Schema.object(
      [
        ("text", Schema.string), ("index", Schema.integer), ("logprobs", Schema.nullable(logprobs)),
        ("finish_reason", Schema.nullable(reasons)),
      ], optional: [promptLogprobs])
    return Schema.object(
      head("text_completion") + [("choices", Schema.list(of: choice))],
      optional: [("usage", Schema.nullable(Schema.reference("Usage")))])
  }()

  private static let embeddings: JSONValue = {
    let embedding = Schema.object([
      ("object", Schema.constant("embedding")), ("index", Schema.integer),
      ("embedding", Schema.either(Schema.list(of: Schema.number), Schema.string)),
    ])
    return Schema.object([
      ("object", Schema.constant("list")), ("data", Schema.list(of: embedding)), ("model", Schema.string),
      ("usage", Schema.object([("prompt_tokens", Schema.integer), ("total_tokens", Schema.integer)])),
    ])
  }()

  // MARK: responses

  private static let item: JSONValue = {
    let status = Schema.oneOf("in_progress", "completed", "incomplete")
    let message = Schema.object([
      ("id", Schema.string), ("type", Schema.constant("message")), ("status", status), ("role", Schema.string),
      ("content", Schema.list(of: Schema.object)),
    ])
    let call = Schema.object([
      ("id", Schema.string), ("type", Schema.constant("function_call")), ("status", status),
      ("arguments", Schema.string), ("call_id", Schema.string), ("name", Schema.string),
    ])
    let output = Schema.object([
      ("id", Schema.string), ("type", Schema.constant("function_call_output")), ("call_id", Schema.string),
      ("output", Schema.either(Schema.string, Schema.list(of: Schema.object))), ("status", status),
    ])
    return Schema.either(message, call, output)
  }()

  private static let response: JSONValue = {
    let usage = Schema.object([
      ("input_tokens", Schema.integer),
      (
        "input_tokens_details",
        Schema.object([("cached_tokens", Schema.integer), ("cache_write_tokens", Schema.integer)])
      ), ("output_tokens", Schema.integer),
      ("output_tokens_details", Schema.object([("reasoning_tokens", Schema.integer)])),
      ("total_tokens", Schema.integer),
    ])
    return Schema.object([
      ("id", Schema.string), ("object", Schema.constant("response")), ("created_at", Schema.integer),
      ("status", Schema.oneOf("in_progress", "completed", "incomplete", "failed")),
      ("background", Schema.constant(false)),
      ("error", Schema.nullable(Schema.object([("code", Schema.string), ("message", Schema.string)]))),
      (
        "incomplete_details",
        Schema.nullable(Schema.object([("reason", Schema.constant("max_output_tokens"))]))
      ),
      ("model", Schema.string), ("output", Schema.list(of: Schema.reference("Item"))),
      ("instructions", Schema.nullable(Schema.string)), ("max_output_tokens", Schema.nullable(Schema.integer)),
      ("max_tool_calls", ["type": "null"]), ("metadata", Schema.map(of: Schema.string)),
      ("parallel_tool_calls", Schema.boolean), ("previous_response_id", Schema.nullable(Schema.string)),
      ("reasoning", Schema.object([("effort", ["type": "null"]), ("summary", ["type": "null"])])),
      ("service_tier", Schema.string), ("store", Schema.boolean), ("temperature", Schema.number),
      ("text", Schema.object([("format", Schema.object)])),
      ("tool_choice", Schema.either(Schema.string, Schema.object)),
      ("tools", Schema.list(of: Schema.object)), ("top_logprobs", Schema.integer), ("top_p", Schema.number),
      ("truncation", Schema.string), ("user", Schema.any), ("usage", Schema.nullable(usage)),
    ])
  }()

  private static let event: JSONValue = [
    "type": "object", "required": ["type", "sequence_number"],
    "properties": ["type": Schema.string, "sequence_number": Schema.integer],
  ]
}
