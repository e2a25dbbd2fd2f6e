import Formats
import Model

/// A request for text as its body says it, parsed and checked, with its prompts tokenised.
///
/// CompletionRequest.swift and ChatRequest.swift make one of their route's fields; this file reads those that both have.
struct AnswerRequest: Sendable {
  var model: ModelFields
  /// One or more prompts, as tokens.
  var prompts: [[Int32]] = []
  /// The options of all choices. The seed is that of the first choice: the request's own, or a random one.
  var options: GenerationOptions
  /// Choices that the answer has for each prompt: `n`.
  var choicesPerPrompt: Int
  /// Choices that are generated for each prompt, of which the answer has the best: `best_of`.
  var candidatesPerPrompt: Int
  /// Whether the answer has the log-probabilities.
  var showsLogprobs = false
  var stream: Bool
  var includeUsage: Bool
  /// How the route writes its answers.
  var shape: any AnswerShape = CompletionShape()
  /// What the model does not see of the request, for a header of the answer.
  var warnings: [String] = []

  /// Choices that are generated for all prompts.
  var candidateCount: Int { prompts.count * candidatesPerPrompt }

  static let maximumChoices = 128
  static let maximumEndTokens = 64
  /// Maximum log-probabilities of an answer that is not streamed: about half a gigabyte with their texts.
  static let maximumLogprobs = 8 << 20

  /// Reads the fields that completions and chats share. The route sets `prompts`, `maxTokens` and the shape.
  /// - Throws: `APIError`, 400, that names the field
  init(_ fields: RequestFields, vocabularySize: Int) throws(APIError) {
    model = try ModelFields(fields)
    var sampling = SamplingParameters(seed: 0)
    sampling.temperature = Float(try fields.number("temperature", in: 0...2) ?? 1)
    sampling.topP = Float(try fields.number("top_p", in: 0...1) ?? 1)
    // No limit is -1 in vLLM, and 0 here and in other servers.
    sampling.topK = max(try fields.integer("top_k", in: -1...Int(Int32.max)) ?? 0, 0)
    sampling.minP = Float(try fields.number("min_p", in: 0...1) ?? 0)
    sampling.repetitionPenalty = Float(try fields.number("repetition_penalty", in: 0.01...10) ?? 1)
    sampling.presencePenalty = Float(try fields.number("presence_penalty", in: -2...2) ?? 0)
    sampling.frequencyPenalty = Float(try fields.number("frequency_penalty", in: -2...2) ?? 0)
    sampling.logitBias = try Self.logitBias(fields, vocabularySize: vocabularySize)
    sampling.seed =
      try fields.integer("seed", in: Int.min...Int.max).map { UInt64(bitPattern: Int64($0)) }
      ?? .random(in: .min ... .max)
    choicesPerPrompt = try fields.integer("n", in: 1...Self.maximumChoices) ?? 1
    candidatesPerPrompt = choicesPerPrompt
    options = GenerationOptions(maxTokens: 0, sampling: sampling)
    options.stop = try Self.stops(fields)
    options.endTokens = try Self.endTokens(fields, vocabularySize: vocabularySize)
    options.timeout = try fields.timeout()
    options.includesStop = try fields.bool("include_stop_str_in_output") ?? false
    options.showsSpecialTokens = try !(fields.bool("skip_special_tokens") ?? true)
    options.ignoresEndOfText = try fields.bool("ignore_eos") ?? false
    stream = try fields.bool("stream") ?? false
    includeUsage = try Self.usageOption(fields, stream: stream)
  }

  /// Checks what depends on several fields, or on the prompts' lengths.
  /// - Throws: `APIError`, 400, that names the field
  func check(contextLength: Int, promptField: String) throws(APIError) {
    guard candidateCount <= Self.maximumChoices else {
      throw .invalid(
        "\(prompts.count) prompts with \(candidatesPerPrompt) choices each are more than \(Self.maximumChoices) "
          + "completions", param: candidatesPerPrompt > choicesPerPrompt ? "best_of" : "n", code: "invalid_value")
    }
    try checkLogprobs()
    for (index, prompt) in prompts.enumerated() {
      guard !prompt.isEmpty else {
        throw .invalid(
          "'\(promptField)' has no tokens" + (prompts.count > 1 ? " (prompt \(index))" : ""), param: promptField,
          code: "invalid_value")
      }
      guard prompt.count + options.maxTokens <= contextLength else {
        throw .exceedsContext(
          contextLength, prompt: prompt.count, completion: options.maxTokens, param: promptField)
      }
    }
  }

  /// Limits the log-probabilities of an answer that is not streamed, because it is in memory until its end.
  private func checkLogprobs() throws(APIError) {
    guard showsLogprobs, let logprobs = options.topLogprobs, !stream else { return }
    let positions =
      prompts.reduce(0) { $0 + (options.echoesPrompt ? $1.count : 0) + options.maxTokens } * candidatesPerPrompt
    guard positions * (logprobs + 1) <= Self.maximumLogprobs else {
      throw .invalid(
        "The answer could have \(positions) tokens with \(logprobs + 1) log-probabilities each, and at most "
          + "\(Self.maximumLogprobs) are held at once; ask for fewer tokens, choices or prompts, or stream",
        param: "logprobs", code: "invalid_value")
    }
  }

  // MARK: fields

  private static func logitBias(
    _ fields: RequestFields, vocabularySize: Int
  ) throws(APIError) -> [Int32: Float] {
    guard let value = fields["logit_bias"] else { return [:] }
    guard let object = value.object else { throw fields.wrong("logit_bias", "an object of token ids and numbers") }
    var biases: [Int32: Float] = [:]
    for (key, value) in object.pairs {
      guard let token = Int32(key), "\(token)" == key, (0..<vocabularySize).contains(Int(token)) else {
        throw .invalid(
          "'logit_bias' has the key '\(key.excerpt(40))', which is no token id between 0 and \(vocabularySize - 1)",
          param: "logit_bias", code: "invalid_value")
      }
      guard let bias = value.double, (-100...100).contains(bias) else {
        throw .invalid(
          "'logit_bias' of the token \(token) must be a number between -100 and 100", param: "logit_bias",
          code: "invalid_value")
      }
      biases[token] = Float(bias)
    }
    return biases
  }

  private static func endTokens(_ fields: RequestFields, vocabularySize: Int) throws(APIError) -> Set<Int32> {
    guard let value = fields["stop_token_ids"] else { return [] }
    guard let list = value.array, list.count <= maximumEndTokens else {
      throw fields.wrong("stop_token_ids", "a list of at most \(maximumEndTokens) token ids")
    }
    var tokens: Set<Int32> = []
    for value in list {
      guard let token = value.integer, (0..<vocabularySize).contains(token) else {
        throw fields.wrong("stop_token_ids", "a list of token ids between 0 and \(vocabularySize - 1)")
      }
      tokens.insert(Int32(token))
    }
    return tokens
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
}
