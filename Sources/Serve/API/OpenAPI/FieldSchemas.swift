import Formats

/// The schemas of the fields that bodies can have, by name. `FieldCatalog` says which route has which field; null always means
/// that a field is missing.
enum FieldSchemas {
  private typealias Schema = JSONSchema

  /// The schema of a route's field.
  /// - Parameter route: the method and the path, as `APIOperation.all` has them
  /// - Returns: `nil` if there is none
  static func schema(of field: String, in route: String) -> JSONValue? { own[route]?[field] ?? shared[field] }

  private static let tokens = Schema.list(of: Schema.integer(0...Int(Int32.max)))
  private static let texts = Schema.either(
    Schema.string, Schema.list(of: Schema.string), tokens, Schema.list(of: tokens))
  private static let message: JSONValue = [
    "type": "object", "required": ["role"],
    "properties": ["role": Schema.oneOf("system", "developer", "user", "assistant", "tool")],
  ]
  private static let schemaOrText = Schema.either(Schema.object, Schema.string)

  private static let shared: [String: JSONValue] = [
    "model": Schema.string, "adapter": Schema.string, "timeout": Schema.number(0...86_400),
    // Sampling.
    "temperature": Schema.number(0...2), "top_p": Schema.number(0...1), "top_k": Schema.integer(-1...Int(Int32.max)),
    "min_p": Schema.number(0...1), "repetition_penalty": Schema.number(0.01...10),
    "repeat_penalty": Schema.number(0.01...10), "repeat_last_n": Schema.integer(-1...Int(Int32.max)),
    "presence_penalty": Schema.number(-2...2), "frequency_penalty": Schema.number(-2...2),
    "logit_bias": Schema.map(of: Schema.number(-100...100)), "seed": Schema.integer,
    "n": Schema.integer(1...AnswerRequest.maximumChoices), "best_of": Schema.integer(1...AnswerRequest.maximumChoices),
    // The answer's end.
    "max_tokens": Schema.integer(0...Int(Int32.max)), "max_completion_tokens": Schema.integer(1...Int(Int32.max)),
    "max_output_tokens": Schema.integer(1...Int(Int32.max)), "min_tokens": Schema.integer(0...Int(Int32.max)),
    "stop": Schema.either(Schema.string, Schema.list(of: Schema.string, maximum: 4)),
    "stop_token_ids": Schema.list(of: Schema.integer, maximum: AnswerRequest.maximumEndTokens),
    "bad_words": Schema.list(of: Schema.string), "ignore_eos": Schema.boolean,
    "include_stop_str_in_output": Schema.boolean, "skip_special_tokens": Schema.boolean,
    // The answer's form.
    "stream": Schema.boolean, "stream_options": Schema.object, "echo": Schema.boolean, "response_format": Schema.object,
    "guided_json": schemaOrText, "guided_regex": Schema.string, "guided_choice": Schema.list(of: Schema.string),
    "guided_grammar": Schema.string, "structured_outputs": Schema.object, "grammar": Schema.string,
    "json_schema": Schema.object, "logprobs": Schema.either(Schema.boolean, Schema.integer(0...20)),
    "top_logprobs": Schema.integer(0...20), "text": Schema.object, "include": Schema.list(of: Schema.string),
    // The prompt.
    "prompt": texts, "suffix": Schema.string, "truncate_prompt_tokens": Schema.integer(-1...Int(Int32.max)),
    "messages": Schema.list(of: message), "tools": Schema.list(of: Schema.object),
    "tool_choice": Schema.either(Schema.string, Schema.object), "parallel_tool_calls": Schema.boolean,
    "chat_template_kwargs": Schema.object, "add_generation_prompt": Schema.boolean,
    "continue_final_message": Schema.boolean, "instructions": Schema.string, "previous_response_id": Schema.string,
    "truncation": Schema.oneOf("auto", "disabled"), "store": Schema.boolean, "metadata": Schema.map(of: Schema.string),
    // Embeddings and tokens.
    "encoding_format": Schema.oneOf("float", "base64"), "dimensions": Schema.integer(1...Int(Int32.max)),
    "tokens": tokens, "add_special_tokens": Schema.boolean, "return_token_strs": Schema.boolean,
    // Batches, adapters and jobs.
    "input_file_id": Schema.string,
    "endpoint": ["enum": .array(GenerationEndpoint.allCases.map { .string($0.rawValue) })],
    "completion_window": Schema.constant(.string(Batch.window)), "lora_name": Schema.string, "lora_path": Schema.string,
    "pinned": Schema.boolean, "training_file": Schema.string, "validation_file": Schema.string, "method": Schema.object,
    "hyperparameters": Schema.object,
  ]

  /// Fields that mean something else on a route than on the others.
  private static let own: [String: [String: JSONValue]] = [
    "POST /v1/embeddings": ["input": texts],
    "POST /v1/responses": ["input": Schema.either(Schema.string, Schema.list(of: Schema.object))],
    "POST /v1/chat/completions": ["logprobs": Schema.boolean],
    "POST /tokenize": ["prompt": Schema.string],
  ]
}
