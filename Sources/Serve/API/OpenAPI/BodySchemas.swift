import Formats

/// The schemas of what bodies are made of: messages, tools, items. They accept every body that the server accepts. They refuse
/// what the server refuses, except where a JSON Schema cannot express the rule.
enum BodySchemas {
  private typealias Schema = JSONSchema
  typealias Pair = (key: String, value: JSONValue)

  /// All of them, by name.
  static let all: [Pair] = [
    ("TextContent", textContent), ("Message", message), ("Tool", tool), ("ToolChoice", toolChoice),
    ("ResponseFormat", responseFormat), ("StructuredOutputs", structuredOutputs), ("InputItem", inputItem),
    ("ResponseTool", responseTool), ("ResponseToolChoice", responseToolChoice), ("ResponseText", responseText),
    ("FineTuningMethod", fineTuningMethod),
  ]

  /// Texts that are given with a request.
  static let metadata = Schema.map(of: Schema.string(0...512), names: ["maxLength": 64], maximum: 16)

  private static let text = Schema.nullable(Schema.string)
  private static let flag = Schema.nullable(Schema.boolean)
  private static let schema = Schema.either(Schema.object, Schema.boolean, Schema.string)

  // MARK: chats

  private static let textContent: JSONValue = {
    let part = Schema.open([("type", Schema.constant("text")), ("text", Schema.string)])
    let refusal = Schema.open([("type", Schema.constant("refusal")), ("refusal", Schema.string)])
    return Schema.either(Schema.string, Schema.list(of: Schema.either(part, refusal)))
  }()

  private static let message: JSONValue = {
    let content = Schema.reference("TextContent")
    let function = Schema.open(
      [("name", Schema.string)],
      optional: [("arguments", Schema.nullable(Schema.either(Schema.string, Schema.object)))])
    let call = Schema.open(
      [("function", function)], optional: [("type", Schema.nullable(Schema.constant("function")))])
    let texts: [Pair] = [("name", text), ("reasoning_content", text)]
    let unsupported: [Pair] = [("function_call", ["type": "null"]), ("audio", ["type": "null"])]
    func assistant(_ required: Pair) -> JSONValue {
      let others: [Pair] = [
        ("content", Schema.nullable(content)), ("tool_calls", Schema.nullable(Schema.list(of: call))),
      ]
      let optional = texts + unsupported + others.filter { $0.key != required.key }
      return Schema.open([("role", Schema.constant("assistant")), required], optional: optional)
    }
    return Schema.either(
      Schema.open(
        [("role", Schema.oneOf("system", "developer", "user")), ("content", content)], optional: texts),
      assistant(("content", content)), assistant(("tool_calls", Schema.list(of: call, minimum: 1))),
      assistant(("refusal", Schema.string)),
      Schema.open(
        [("role", Schema.constant("tool")), ("content", content), ("tool_call_id", Schema.string)], optional: texts))
  }()

  /// Members of a function that is offered.
  private static let function: [Pair] = [
    ("description", text), ("parameters", Schema.nullable(Schema.either(Schema.object, Schema.boolean))),
    ("strict", flag),
  ]
  private static let functionName = Schema.string(1...128)

  private static let tool = Schema.open([
    ("type", Schema.constant("function")), ("function", Schema.open([("name", functionName)], optional: function)),
  ])

  private static let namedFunction = Schema.open([
    ("type", Schema.constant("function")), ("function", Schema.open([("name", Schema.string)])),
  ])

  private static let toolChoice = Schema.either(
    Schema.oneOf("none", "auto", "required"), namedFunction,
    Schema.open([
      ("type", Schema.constant("allowed_tools")),
      (
        "allowed_tools",
        Schema.open([
          ("mode", Schema.oneOf("auto", "required")),
          ("tools", Schema.list(of: namedFunction, minimum: 1, maximum: 128)),
        ])
      ),
    ]))

  private static let responseFormat = Schema.either(
    Schema.open(
      [("type", Schema.constant("text"))], optional: [("schema", ["type": "null"]), ("json_schema", ["type": "null"])]),
    Schema.open(
      [("type", Schema.constant("json_object"))],
      optional: [("schema", Schema.nullable(schema)), ("json_schema", ["type": "null"])]),
    Schema.open(
      [
        ("type", Schema.constant("json_schema")),
        ("json_schema", Schema.open([("schema", schema)], optional: formTexts)),
      ], optional: [("schema", ["type": "null"])]))

  /// What may stand beside a schema.
  private static let formTexts: [Pair] = [("strict", flag), ("name", text), ("description", text)]

  private static let structuredOutputs: JSONValue = {
    let forms: [Pair] = [
      ("json", Schema.nullable(schema)), ("json_object", flag), ("regex", text),
      ("choice", Schema.nullable(Schema.list(of: Schema.string, minimum: 1, maximum: 10_000))), ("grammar", text),
    ]
    // How vLLM's own backends write white space.
    let neutral: [Pair] = [
      "disable_fallback", "disable_any_whitespace", "disable_additional_properties", "whitespace_pattern",
    ].map { (key: $0, value: Schema.oneOf(false, .null)) }
    return Schema.object([], optional: forms + neutral)
  }()

  // MARK: responses

  private static let inputItem: JSONValue = {
    let list = Schema.nullable(Schema.list(of: Schema.any))
    let lists: [Pair] = [("annotations", list), ("logprobs", list)]
    let part = Schema.either(
      Schema.open(
        [("type", Schema.oneOf("input_text", "output_text", "text")), ("text", Schema.string)], optional: lists),
      Schema.open([("type", Schema.constant("refusal")), ("refusal", Schema.string)], optional: lists))
    let content = Schema.either(Schema.string, Schema.list(of: part))
    let state: [Pair] = [("id", text), ("status", Schema.oneOf("in_progress", "completed", "incomplete", .null))]
    let message = Schema.open(
      [("role", Schema.oneOf("user", "assistant", "system", "developer")), ("content", content)],
      optional: [("type", Schema.oneOf("message", .null))] + state)
    let call = Schema.open(
      [
        ("type", Schema.constant("function_call")), ("call_id", Schema.name), ("name", Schema.name),
        ("arguments", Schema.string),
      ], optional: state)
    let output = Schema.open(
      [("type", Schema.constant("function_call_output")), ("call_id", Schema.name), ("output", content)],
      optional: state)
    let reference = Schema.object([("id", Schema.name)], optional: [("type", Schema.oneOf("item_reference", .null))])
    let named = Schema.open([("type", Schema.constant("item_reference")), ("id", Schema.name)])
    let reasoning = Schema.open(
      [("type", Schema.constant("reasoning"))],
      optional: [("summary", list), ("content", list), ("encrypted_content", text)] + state)
    return Schema.either(message, call, output, reference, named, reasoning)
  }()

  private static let responseTool = Schema.open(
    [("type", Schema.constant("function")), ("name", functionName)], optional: function)

  private static let responseToolChoice: JSONValue = {
    let named = Schema.open([("type", Schema.constant("function")), ("name", Schema.string)])
    return Schema.either(
      Schema.oneOf("none", "auto", "required"), named,
      Schema.open([
        ("type", Schema.constant("allowed_tools")), ("mode", Schema.oneOf("auto", "required")),
        ("tools", Schema.list(of: named, minimum: 1, maximum: 128)),
      ]))
  }()

  private static let responseText: JSONValue = {
    let format = Schema.either(
      Schema.open([("type", Schema.oneOf("text", "json_object"))], optional: [("schema", ["type": "null"])]),
      Schema.open([("type", Schema.constant("json_schema")), ("schema", schema)], optional: formTexts))
    return Schema.open([], optional: [("format", Schema.nullable(format))])
  }()

  // MARK: jobs

  /// Each type has its own settings, and no others.
  private static let fineTuningMethod: JSONValue = {
    func method(_ type: String) -> JSONValue {
      let settings = Schema.object([], optional: [("hyperparameters", Schema.nullable(Schema.object))])
      return Schema.object([("type", Schema.constant(.string(type)))], optional: [(type, Schema.nullable(settings))])
    }
    return Schema.either(method("supervised"), method("dpo"))
  }()
}
