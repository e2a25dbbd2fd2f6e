import Formats
import Model

/// What a model limits in the bodies of requests.
struct ModelLimits: Sendable {
  var contextLength = Int(Int32.max)
  var vocabularySize = Int(Int32.max)
  var hiddenSize = Int(Int32.max)
  /// The minimum characters of a text that has tokens: 0 where every text begins with one.
  var minimumText = 0
}

/// The schemas of the fields that bodies can have, by name. `FieldCatalog` says which route has which field; null always means
/// that a field is missing.
struct FieldSchemas {
  private typealias Schema = JSONSchema

  private let shared: [String: JSONValue]
  /// Fields that mean something else on a route than on the others.
  private let own: [String: [String: JSONValue]]

  init(_ limits: ModelLimits = ModelLimits()) {
    let token = Schema.integer(0...limits.vocabularySize - 1)
    let tokens = Schema.list(of: token)
    let context = limits.contextLength
    shared = [
      "model": Schema.string(1...AdapterSelector.maximumBytes),
      "adapter": Schema.string(0...AdapterSelector.maximumBytes),
      "timeout": ["type": "number", "exclusiveMinimum": 0, "maximum": 86_400],
      // Sampling.
      "temperature": Schema.number(0...2), "top_p": Schema.number(0...1),
      "top_k": Schema.integer(-1...Int(Int32.max)), "min_p": Schema.number(0...1),
      "repetition_penalty": Schema.number(0.01...10), "repeat_penalty": Schema.number(0.01...10),
      "repeat_last_n": Schema.integer(-1...Int(Int32.max)), "presence_penalty": Schema.number(-2...2),
      "frequency_penalty": Schema.number(-2...2),
      "logit_bias": Schema.map(of: Schema.number(-100...100), names: ["pattern": "^(0|[1-9][0-9]{0,9})$"]),
      "seed": Schema.integer(Int.min...Int.max), "n": Schema.integer(1...AnswerRequest.maximumChoices),
      "best_of": Schema.integer(1...AnswerRequest.maximumChoices),
      // The answer's end.
      "max_tokens": Schema.integer(0...context), "max_completion_tokens": Schema.integer(1...context),
      "max_output_tokens": Schema.integer(1...context), "min_tokens": Schema.integer(0...context),
      "stop": Schema.either(Schema.string(0...1024), Schema.list(of: Schema.string(0...1024), maximum: 4)),
      "stop_token_ids": Schema.list(of: token, maximum: AnswerRequest.maximumEndTokens),
      "bad_words": Schema.list(of: Schema.string(1...1024), maximum: 256), "ignore_eos": Schema.boolean,
      "include_stop_str_in_output": Schema.boolean, "skip_special_tokens": Schema.boolean,
      // The answer's form.
      "stream": Schema.boolean,
      "stream_options": Schema.open([], optional: [("include_usage", Schema.nullable(Schema.boolean))]),
      "echo": Schema.boolean, "response_format": Schema.reference("ResponseFormat"),
      "guided_json": Schema.either(Schema.object, Schema.boolean, Schema.string),
      "guided_regex": ["type": "string", "format": "regex"],
      "guided_choice": Schema.list(of: Schema.string, minimum: 1, maximum: 10_000), "guided_grammar": Schema.string,
      "structured_outputs": Schema.reference("StructuredOutputs"), "grammar": Schema.string,
      "json_schema": Schema.either(Schema.object, Schema.boolean, Schema.string),
      "logprobs": Schema.either(Schema.boolean, Schema.integer(0...20)), "top_logprobs": Schema.integer(0...20),
      "prompt_logprobs": Schema.integer(0...20), "text": Schema.reference("ResponseText"),
      "include": Schema.list(of: Schema.oneOf("message.output_text.logprobs", "reasoning.encrypted_content")),
      // The prompt.
      "prompt": Self.texts(tokens, maximum: CompletionRequest.maximumPrompts), "suffix": Schema.string,
      "truncate_prompt_tokens": Schema.either(Schema.constant(-1), Schema.integer(1...context)),
      "messages": Schema.list(of: Schema.reference("Message"), minimum: 1),
      "tools": Schema.list(of: Schema.reference("Tool"), maximum: 128), "tool_choice": Schema.reference("ToolChoice"),
      "parallel_tool_calls": Schema.boolean, "chat_template_kwargs": Schema.object,
      "add_generation_prompt": Schema.boolean, "continue_final_message": Schema.boolean,
      "instructions": Schema.string, "previous_response_id": Schema.string(pattern: "^resp_"),
      "truncation": Schema.oneOf("auto", "disabled"), "store": Schema.boolean, "metadata": BodySchemas.metadata,
      // Embeddings and tokens.
      "encoding_format": Schema.oneOf("float", "base64"), "dimensions": Schema.integer(1...limits.hiddenSize),
      "tokens": tokens, "add_special_tokens": Schema.boolean, "return_token_strs": Schema.boolean,
      // Batches, adapters and jobs.
      "input_file_id": Schema.string(pattern: "^file-"),
      "endpoint": ["enum": .array(GenerationEndpoint.allCases.map { .string($0.rawValue) })],
      "completion_window": Schema.constant(.string(Batch.window)),
      "lora_name": Schema.string(pattern: "^[A-Za-z0-9]([A-Za-z0-9._/:-]{0,254}[A-Za-z0-9])?$"),
      "adapters": Schema.string(1...AdapterSelector.maximumBytes),
      "combination": ["enum": .array(WeightedSum.Combination.allCases.map { .string($0.rawValue) })],
      "lora_path": Schema.string(1...4096), "pinned": Schema.boolean, "version": Schema.integer(1...Int(Int32.max)),
      "training_file": Schema.string(pattern: "^file-"),
      "validation_file": Schema.string(pattern: "^file-"), "method": Schema.reference("FineTuningMethod"),
      "hyperparameters": Schema.object,
      "sample_prompts": Schema.list(
        of: Schema.string(1...FineTuningService.maximumSamplePromptLength),
        maximum: FineTuningService.maximumSamplePrompts),
    ]
    let job = ["suffix": Schema.string(0...64), "seed": Schema.integer(0...Int.max)]
    own = [
      "POST /v1/embeddings": [
        "input": Self.texts(tokens, minimum: limits.minimumText, maximum: EmbeddingRequest.maximumInputs)
      ],
      "POST /v1/responses": [
        "input": Schema.either(Schema.string, Schema.list(of: Schema.reference("InputItem"), minimum: 1)),
        "tools": Schema.list(of: Schema.reference("ResponseTool"), maximum: 128),
        "tool_choice": Schema.reference("ResponseToolChoice"),
      ],
      "POST /v1/chat/completions": ["logprobs": Schema.boolean, "max_tokens": Schema.integer(1...context)],
      "POST /v1/fine_tuning/jobs": job, "POST /v1/fine_tuning/preview": job,
      "POST /tokenize": ["prompt": Schema.string],
    ]
  }

  /// The schema of a route's field.
  /// - Parameter route: the method and the path, as `APIOperation.all` has them
  /// - Returns: `nil` if there is none
  func schema(of field: String, in route: String) -> JSONValue? { own[route]?[field] ?? shared[field] }

  /// The schema of a field of any model.
  static func schema(of field: String, in route: String) -> JSONValue? { FieldSchemas().schema(of: field, in: route) }

  /// What several fields of a route's body must have in common; empty for most routes.
  static func rules(_ route: String) -> [JSONValue] {
    func null(_ field: String) -> JSONValue {
      ["properties": .object(JSONObject(keepingFirst: [(field, ["type": "null"])]))]
    }
    func given(_ field: String, _ schema: JSONValue) -> JSONValue {
      [
        "required": [.string(field)],
        "properties": .object(JSONObject(keepingFirst: [(field, schema)])),
      ]
    }
    /// A field that goes only with a value of another one.
    func needs(_ field: String, neutral: JSONValue? = nil, _ other: String, _ schema: JSONValue) -> JSONValue {
      let values = [.null] + [neutral].compactMap(\.self)
      let without = JSONObject(keepingFirst: [
        (field, JSONValue.object(JSONObject(keepingFirst: [("enum", .array(values))])))
      ])
      return Schema.either(["properties": .object(without)], given(other, schema))
    }
    let streams = needs("stream_options", "stream", Schema.constant(true))
    let scores = Schema.either(null("prompt_logprobs"), ["properties": ["stream": Schema.oneOf(false, .null)]])
    let tools = needs("tool_choice", neutral: "none", "tools", ["type": "array", "minItems": 1])
    switch route {
    case "POST /v1/completions": return [streams, scores]
    case "POST /v1/chat/completions":
      return [streams, scores, tools, needs("top_logprobs", neutral: 0, "logprobs", Schema.constant(true))]
    case "POST /tokenize": return [Schema.either(given("prompt", Schema.string), given("messages", ["type": "array"]))]
    default: return []
    }
  }

  /// - Parameter minimum: characters of each text
  private static func texts(_ tokens: JSONValue, minimum: Int = 0, maximum: Int) -> JSONValue {
    let text = minimum == 0 ? Schema.string : ["type": "string", "minLength": .integer(minimum)]
    var some = tokens.object?.pairs ?? []
    some.append((key: "minItems", value: 1))
    let tokens = JSONValue.object(JSONObject(keepingFirst: some))
    return Schema.either(
      text, Schema.list(of: text, minimum: 1, maximum: maximum), tokens,
      Schema.list(of: tokens, minimum: 1, maximum: maximum))
  }
}
