import Model

/// The body of `POST /v1/completions`, checked.
struct CompletionRequest {
  /// One or more prompts, as tokens.
  var prompts: [[Int32]]
  var model: String?
  var maxTokens: Int
  var temperature: Double
  var topP: Double
  var seed: UInt64?
  var choicesPerPrompt: Int
  var stop: [String]
  /// How many of the most probable tokens to report; `nil` for no logprobs.
  var logprobs: Int?
  var echo: Bool
  var stream: Bool
  var includeUsage: Bool
  var ignoreEOS: Bool
  var timeout: Duration?

  static let maxPrompts = 128
  static let maxChoices = 128

  /// - Throws: `APIError`, 400, that names the field
  init(_ fields: RequestFields, tokenizer: Tokenizer, contextLength: Int) throws(APIError) {
    model = try fields.string("model")
    echo = try fields.bool("echo") ?? false
    logprobs = try Self.logprobCount(fields)
    // Without echo there would be nothing to answer.
    maxTokens = try fields.integer("max_tokens", in: 0...contextLength) ?? 16
    if maxTokens == 0, !echo {
      throw .invalid(
        "'max_tokens' must be at least 1 unless 'echo' is true", param: "max_tokens", code: "invalid_value")
    }
    temperature = try fields.number("temperature", in: 0...2) ?? 1
    topP = try fields.number("top_p", in: 0...1) ?? 1
    seed = try fields.integer("seed", in: Int.min...Int.max).map { UInt64(bitPattern: Int64($0)) }
    choicesPerPrompt = try fields.integer("n", in: 1...Self.maxChoices) ?? 1
    stop = try Self.stops(fields)
    stream = try fields.bool("stream") ?? false
    includeUsage = try Self.usageOption(fields, stream: stream)
    ignoreEOS = try fields.bool("ignore_eos") ?? false
    timeout = try fields.timeout()
    prompts = try Self.prompts(fields, tokenizer: tokenizer)

    let choices = choicesPerPrompt
    try fields.refuse("best_of") { $0.integer == 1 || $0.integer == choices }
    for name in ["frequency_penalty", "presence_penalty"] { try fields.refuse(name) { $0.double == 0 } }
    try fields.refuse("logit_bias") { $0.object?.isEmpty == true }
    try fields.refuse("suffix") { $0.string == "" }

    guard prompts.count * choicesPerPrompt <= Self.maxChoices else {
      throw .invalid(
        "\(prompts.count) prompts with \(choicesPerPrompt) choices each are more than \(Self.maxChoices) completions",
        param: "n", code: "invalid_value")
    }
    for (index, prompt) in prompts.enumerated() {
      guard !prompt.isEmpty else {
        throw .invalid("'prompt' has no tokens (prompt \(index))", param: "prompt", code: "invalid_value")
      }
      guard prompt.count + maxTokens <= contextLength else {
        throw .invalid(
          "This model's maximum context length is \(contextLength) tokens, but \(prompt.count + maxTokens) were asked "
            + "for: \(prompt.count) in the prompt and \(maxTokens) to complete it",
          param: "prompt", code: "context_length_exceeded")
      }
    }
  }

  private static func logprobCount(_ fields: RequestFields) throws(APIError) -> Int? {
    if fields["logprobs"]?.bool == false { return nil }
    return try fields.integer("logprobs", in: 0...20)
  }

  private static func stops(_ fields: RequestFields) throws(APIError) -> [String] {
    guard let value = fields["stop"] else { return [] }
    let strings: [String]
    switch value {
    case .string(let string): strings = [string]
    case .array(let values):
      strings = values.compactMap(\.string)
      guard strings.count == values.count else { throw fields.wrong("stop", "a string or a list of strings") }
    default: throw fields.wrong("stop", "a string or a list of strings")
    }
    guard strings.count <= 4 else {
      throw .invalid("'stop' takes at most 4 strings", param: "stop", code: "invalid_value")
    }
    guard strings.allSatisfy({ $0.utf8.count <= 1024 }) else {
      throw .invalid("a string of 'stop' is over 1,024 bytes", param: "stop", code: "invalid_value")
    }
    return strings.filter { !$0.isEmpty }
  }

  private static func usageOption(_ fields: RequestFields, stream: Bool) throws(APIError) -> Bool {
    guard let options = try fields.object("stream_options") else { return false }
    guard stream else {
      throw .invalid("'stream_options' needs 'stream' to be true", param: "stream_options", code: "invalid_value")
    }
    return try options.bool("include_usage") ?? false
  }

  /// A string, a list of strings, a list of token ids, or a list of those.
  private static func prompts(_ fields: RequestFields, tokenizer: Tokenizer) throws(APIError) -> [[Int32]] {
    let expected = "a string, a list of strings, a list of token ids or a list of lists of token ids"
    guard let value = fields["prompt"] else {
      throw .invalid("'prompt' is missing", param: "prompt", code: "missing_required_parameter")
    }
    switch value {
    case .string(let text): return [tokenizer.encode(text, parsingSpecialTokens: true)]
    case .array(let values):
      guard let first = values.first else { throw fields.wrong("prompt", expected) }
      if first.integer != nil { return [try tokens(values, tokenizer)] }
      guard values.count <= maxPrompts else {
        throw .invalid("'prompt' holds more than \(maxPrompts) prompts", param: "prompt", code: "invalid_value")
      }
      var prompts: [[Int32]] = []
      for value in values {
        switch value {
        case .string(let text): prompts.append(tokenizer.encode(text, parsingSpecialTokens: true))
        case .array(let ids): prompts.append(try tokens(ids, tokenizer))
        default: throw fields.wrong("prompt", expected)
        }
      }
      return prompts
    default: throw fields.wrong("prompt", expected)
    }
  }

  private static func tokens(_ values: [JSONValue], _ tokenizer: Tokenizer) throws(APIError) -> [Int32] {
    var ids: [Int32] = []
    ids.reserveCapacity(values.count)
    for value in values {
      guard let id = value.integer, id >= 0, id < tokenizer.vocabularySize else {
        throw .invalid(
          "'prompt' holds \(String(decoding: value.encoded.prefix(40), as: UTF8.self)), which is no token id between 0 and "
            + "\(tokenizer.vocabularySize - 1)", param: "prompt", code: "invalid_value")
      }
      ids.append(Int32(id))
    }
    return ids
  }
}
