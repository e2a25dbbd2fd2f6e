import Formats
import Model

/// The fields that a route's body can have. No field that would change the answer is ignored silently.
///
/// Each field is of one of four kinds. Honoured fields are read. Accepted fields are ignored, because they change no
/// answer. Refused fields are known from OpenAI, vLLM or llama.cpp but not supported; their neutral values are
/// accepted. Unknown fields are refused only if they look like a misspelling.
struct FieldCatalog: Sendable {
  /// Whether a value of a refused field is neutral: it asks for what the server does without the field.
  typealias Neutral = @Sendable (JSONValue) -> Bool

  var honoured: Set<String>
  var accepted: Set<String> = []
  var refused: [String: Neutral] = [:]
  /// Honoured fields that are objects or lists of objects, with their members.
  var members: [String: FieldCatalog] = [:]

  private static let maximumFields = 256
  /// Objects in a list whose members are checked. Every list with members has a limit, beyond which it is refused.
  private static let maximumObjects = ToolFields.maximumTools

  /// Checks the names of a body's fields, and the values of refused ones.
  /// - Parameters:
  ///   - log: notes unknown names
  ///   - path: the route's
  /// - Throws: `APIError`, 400, that names the field
  func check(_ fields: RequestFields, log: UnknownNameLog, path: String) throws(APIError) {
    let names = fields.names
    for name in names where honoured.contains("adapter") && AdapterSelector.otherNames.contains(name) {
      guard let value = fields[name], !Self.isEmpty(value) else { continue }
      throw .invalid(
        "'\(name)' is not supported by this server; 'adapter' names adapters", param: name,
        code: "unsupported_parameter")
    }
    guard names.count <= Self.maximumFields else {
      throw .invalid("The body has \(names.count) fields, more than \(Self.maximumFields)")
    }
    for name in names where !honoured.contains(name) && !accepted.contains(name) && fields[name] != nil {
      if let isNeutral = refused[name] {
        try fields.refuse(name, unless: isNeutral)
        continue
      }
      if let meant = nearest(name) { throw fields.misspelt(name, meant) }
      log.note("field", name, path: path)
    }
    for name in names {
      guard let catalog = members[name] else { continue }
      let parent = fields.path(name)
      switch fields[name] {
      case .object(let object)?: try catalog.check(RequestFields(object, of: parent), log: log, path: path)
      case .array(let list)?:
        for (index, item) in list.prefix(Self.maximumObjects).enumerated() {
          guard let object = item.object else { continue }
          try catalog.check(RequestFields(object, of: "\(parent)[\(index)]"), log: log, path: path)
        }
      // What reads the field checks its type.
      default: break
      }
    }
  }

  private func nearest(_ name: String) -> String? {
    NearNames.nearest(name, among: honoured.sorted())
      ?? NearNames.nearest(name, among: accepted.sorted() + refused.keys.sorted())
  }

  /// The catalog with the fields of another route, which are refused unless they are known here.
  func refusingOthers(of other: FieldCatalog, unless neutral: [String: Neutral] = [:]) -> FieldCatalog {
    var catalog = self
    for name in other.honoured where !honoured.contains(name) && !accepted.contains(name) && refused[name] == nil {
      catalog.refused[name] = neutral[name] ?? { _ in false }
    }
    for (name, isNeutral) in other.refused
    where !honoured.contains(name) && !accepted.contains(name) && refused[name] == nil {
      catalog.refused[name] = isNeutral
    }
    return catalog
  }

  /// The catalog of a route that has further fields.
  func adding(
    honoured more: Set<String> = [], accepted: Set<String> = [], members: [String: FieldCatalog] = [:],
    refused: [String: Neutral] = [:]
  ) -> FieldCatalog {
    FieldCatalog(
      honoured: honoured.union(more), accepted: self.accepted.union(accepted),
      refused: self.refused.merging(refused) { _, new in new },
      members: self.members.merging(members) { _, new in new })
  }
}

extension FieldCatalog {
  /// Only null is neutral.
  private static let never: Neutral = { _ in false }
  private static let isFalse: Neutral = { $0.bool == false }
  private static let isTrue: Neutral = { $0.bool == true }
  private static let isEmpty: Neutral = { $0.array?.isEmpty == true || $0.object?.isEmpty == true || $0.string == "" }

  private static func equals(_ values: Double...) -> Neutral {
    { value in value.double.map(values.contains) ?? false }
  }

  /// The fields that completions and chats have in common.
  private static let generation = FieldCatalog(
    honoured: [
      "model", "adapter", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty",
      "frequency_penalty", "logit_bias", "seed", "n", "stop", "stop_token_ids", "timeout", "ignore_eos", "stream",
      "stream_options", "max_tokens", "logprobs", "include_stop_str_in_output", "skip_special_tokens",
      "response_format", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs",
      "grammar", "json_schema", "min_tokens", "bad_words", "repeat_penalty", "repeat_last_n", "truncate_prompt_tokens",
      "best_of", "prompt_logprobs",
    ],
    accepted: [
      // OpenAI's, for its accounts and machines.
      "user", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
      // vLLM's.
      "request_id", "priority", "cache_salt", "guided_decoding_backend",
      // llama.cpp's that change when it computes, not what.
      "cache_prompt", "id_slot", "slot_id", "n_keep", "n_discard", "timings_per_token", "return_progress",
      // llama.cpp's that only matter together with fields that are refused.
      "dynatemp_exponent", "dry_base", "dry_allowed_length", "dry_penalty_last_n",
      "dry_sequence_breakers", "xtc_threshold", "mirostat_tau", "mirostat_eta",
    ],
    refused: [
      // vLLM (SamplingParams and its protocol's extra parameters).
      "use_beam_search": isFalse, "length_penalty": equals(1), "early_stopping": isFalse,
      "spaces_between_special_tokens": isTrue,
      "allowed_token_ids": never, "logits_processors": isEmpty,
      "return_tokens_as_token_ids": isFalse, "return_token_ids": isFalse, "logprob_token_ids": isEmpty,
      "guided_whitespace_pattern": never, "structural_tag": never, "kv_transfer_params": isEmpty, "vllm_xargs": isEmpty,
      "prompt_embeds": never, "thinking_token_budget": never, "repetition_detection": never,
      // llama.cpp's server.
      "n_predict": never, "n_indent": equals(0), "dynatemp_range": equals(0),
      "typical_p": equals(1), "typ_p": equals(1), "tfs_z": equals(1), "top_n_sigma": { ($0.double ?? 1) <= 0 },
      "penalize_nl": isFalse, "dry_multiplier": equals(0), "xtc_probability": equals(0),
      "mirostat": equals(0), "adaptive_target": { ($0.double ?? 1) <= 0 }, "adaptive_decay": never,
      "t_max_prompt_ms": { ($0.double ?? 1) <= 0 }, "system_prompt": isEmpty, "thinking_budget_tokens": { $0 == -1 },
      "reasoning_budget": { $0 == -1 }, "grammar_lazy": isFalse, "grammar_triggers": isEmpty,
      "n_probs": equals(0), "min_keep": equals(0, 1), "samplers": never,
      "post_sampling_probs": isFalse, "return_tokens": isFalse, "response_fields": isEmpty,
      "t_max_predict_ms": { ($0.double ?? 1) <= 0 }, "image_data": isEmpty, "n_cmpl": equals(1),
      // TGI's and SGLang's.
      "max_new_tokens": never, "min_new_tokens": equals(0), "do_sample": isTrue, "no_repeat_ngram_size": equals(0),
      "truncation_side": never, "detokenize": isTrue,
      // Other APIs' names of fields that have another name here, or do not exist.
      "max_output_tokens": never, "max_length": never, "stop_sequences": isEmpty, "enable_thinking": never,
      "thinking": never, "reasoning": never, "think": never, "format": isEmpty, "options": isEmpty,
      "extra_body": { $0.object?.isEmpty ?? true }, "top_a": equals(0),
      "regex": never, "ebnf": never, "stop_regex": never, "no_stop_trim": isFalse,
    ],
    members: [
      "stream_options": FieldCatalog(honoured: ["include_usage"], refused: ["continuous_usage_stats": isFalse]),
      "response_format": FieldCatalog(
        honoured: ["type", "schema", "json_schema"],
        members: ["json_schema": FieldCatalog(honoured: ["schema", "strict"], accepted: ["name", "description"])]),
    ])

  /// A function that is offered, and as choices name it.
  private static let function = FieldCatalog(honoured: ["name", "description", "parameters", "strict"])
  private static let functionName = FieldCatalog(honoured: ["name"])

  private static let tool = FieldCatalog(honoured: ["type", "function"], members: ["function": function])

  private static let toolChoice: FieldCatalog = {
    let named = FieldCatalog(honoured: ["type", "function"], members: ["function": functionName])
    return named.adding(
      honoured: ["allowed_tools"],
      members: ["allowed_tools": FieldCatalog(honoured: ["mode", "tools"], members: ["tools": named])])
  }()

  /// `POST /v1/completions`.
  static let completions = generation.adding(
    honoured: ["prompt", "suffix", "echo"],
    refused: [
      "add_special_tokens": isTrue,
      // A chat's fields.
      "messages": never, "max_completion_tokens": never, "top_logprobs": equals(0), "tools": isEmpty,
      "tool_choice": { $0 == "none" }, "chat_template": never, "chat_template_kwargs": isEmpty,
    ])

  /// `POST /v1/chat/completions`.
  static let chat = generation.adding(
    honoured: [
      "messages", "top_logprobs", "max_completion_tokens", "tools", "tool_choice", "parallel_tool_calls",
      "continue_final_message", "add_generation_prompt", "chat_template_kwargs",
    ],
    members: ["tools": tool, "tool_choice": toolChoice],
    refused: [
      "prompt": never, "suffix": { $0.string == "" },
      "n_predict": equals(-1), "audio": { $0 == "none" }, "prediction": never, "web_search_options": never,
      "function_call": { $0 == "none" },
      "functions": isEmpty, "modalities": { $0 == ["text"] },
      "reasoning_effort": { ["none", "medium"].contains($0.string) }, "verbosity": { $0 == "medium" },
      "chat_template": never, "documents": isEmpty, "echo": isFalse,
      "add_special_tokens": isFalse, "mm_processor_kwargs": isEmpty, "media_io_kwargs": isEmpty,
      "include_reasoning": isTrue, "reasoning_format": { ["none", "auto"].contains($0.string) },
      "reasoning_in_content": isFalse, "thinking_forced_open": isFalse, "parse_tool_calls": isTrue,
    ])

  /// `POST /v1/responses`.
  static let responses = FieldCatalog(
    honoured: [
      "model", "adapter", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "text",
      "max_output_tokens", "temperature", "top_p", "top_logprobs", "include", "metadata", "truncation", "stream",
      "store", "previous_response_id",
      // The same as a chat's.
      "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "logit_bias", "seed", "stop",
      "stop_token_ids", "ignore_eos", "timeout", "chat_template_kwargs", "min_tokens", "bad_words", "repeat_penalty",
      "repeat_last_n", "truncate_prompt_tokens",
    ],
    accepted: [
      "user", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "request_id",
      "priority", "cache_salt",
      // Only the calls of built-in tools, of which there are none, count.
      "max_tool_calls",
      // Changes the stream's padding alone.
      "stream_options",
    ],
    refused: [
      "background": isFalse, "conversation": never, "prompt": never, "messages": never, "max_tokens": never,
      "max_completion_tokens": never, "n": equals(1), "logprobs": isFalse, "response_format": never,
      "context_management": isEmpty,
      "reasoning": { value in
        ["none", "medium", nil].contains(value.object?["effort"]?.string)
      },
    ],
    members: [
      "tools": function.adding(honoured: ["type"]),
      "tool_choice": functionName.adding(
        honoured: ["type", "mode", "tools"], members: ["tools": functionName.adding(honoured: ["type"])]),
      "text": FieldCatalog(
        honoured: ["format"], refused: ["verbosity": { $0 == "medium" }],
        members: ["format": FieldCatalog(honoured: ["type", "schema", "strict"], accepted: ["name", "description"])]),
    ]
  ).refusingOthers(
    of: chat,
    unless: [
      "best_of": equals(1), "include_stop_str_in_output": isFalse, "skip_special_tokens": isTrue,
      "continue_final_message": isFalse, "add_generation_prompt": isTrue,
    ])

  /// `POST /v1/embeddings`.
  static let embeddings = FieldCatalog(
    honoured: ["model", "adapter", "input", "encoding_format", "dimensions", "timeout", "truncate_prompt_tokens"],
    accepted: ["user", "metadata", "request_id", "priority"],
    refused: [
      "add_special_tokens": isTrue, "messages": never, "normalize": isTrue,
      "embd_normalize": equals(2), "pooling": { $0 == "mean" }, "input_type": never, "embed_dtype": { $0 == "float32" },
    ])

  /// `POST /v1/batches`.
  static let batch = FieldCatalog(
    honoured: ["input_file_id", "endpoint", "completion_window", "metadata"], refused: ["output_expires_after": never])

  /// `POST /tokenize`.
  static let tokenize = FieldCatalog(
    honoured: [
      "model", "adapter", "prompt", "messages", "tools", "add_special_tokens", "return_token_strs",
      "add_generation_prompt", "continue_final_message", "chat_template_kwargs",
    ],
    refused: ["chat_template": never, "mm_processor_kwargs": isEmpty, "media_io_kwargs": isEmpty],
    members: ["tools": tool])

  /// `POST /detokenize`.
  static let detokenize = FieldCatalog(honoured: ["model", "adapter", "tokens"])

  /// `POST /v1/load_lora_adapter`.
  static let loadAdapter = FieldCatalog(
    honoured: ["lora_name", "lora_path", "pinned"],
    refused: ["base_model_name": never, "load_inplace": isTrue, "is_3d_lora_weight": isFalse])

  /// `PUT /v1/adapters/{name}` as JSON.
  static let combineAdapters = FieldCatalog(honoured: ["adapters", "combination", "pinned"])

  /// `POST /v1/adapters/{name}`.
  static let reloadAdapter = FieldCatalog(honoured: ["version", "pinned"])

  /// `POST /v1/unload_lora_adapter`.
  static let unloadAdapter = FieldCatalog(honoured: ["lora_name"], accepted: ["lora_int_id"])

  /// `POST /v1/fine_tuning/jobs`.
  static let fineTuningJob = FieldCatalog(
    honoured: [
      "model", "training_file", "validation_file", "suffix", "seed", "metadata", "method", "hyperparameters",
      "sample_prompts",
    ],
    accepted: ["user", "store"], refused: ["integrations": isEmpty])
}
