import Formats
import Model
import Tokenization

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
  /// What the model does not see of the request and what its answer is not held to, for a header of the answer.
  var warnings: [String] = []

  /// Choices that are generated for all prompts.
  var candidateCount: Int { prompts.count * candidatesPerPrompt }

  static let maximumChoices = 128
  static let maximumEndTokens = 64
  /// Maximum log-probabilities of an answer that is not streamed: about half a gigabyte with their texts.
  static let maximumLogprobs = 8 << 20

  /// Reads the fields that completions and chats share. The route sets `prompts`, `maxTokens` and the shape.
  /// - Throws: `APIError`, 400, that names the field
  init(_ fields: RequestFields, _ tokenizer: Tokenizer) throws(APIError) {
    model = try ModelFields(fields)
    choicesPerPrompt = try fields.integer("n", in: 1...Self.maximumChoices) ?? 1
    candidatesPerPrompt = choicesPerPrompt
    options = GenerationOptions(maxTokens: 0, sampling: try SamplingParameters(fields, tokenizer))
    options.stop = try Self.stops(fields)
    options.endTokens = try Self.endTokens(fields, vocabularySize: tokenizer.vocabularySize)
    options.timeout = try fields.timeout()
    options.includesStop = try fields.bool("include_stop_str_in_output") ?? false
    options.showsSpecialTokens = try !(fields.bool("skip_special_tokens") ?? true)
    options.ignoresEndOfText = try fields.bool("ignore_eos") ?? false
    stream = try fields.bool("stream") ?? false
    includeUsage = try Self.usageOption(fields, stream: stream)
    options.promptLogprobs = try fields.integer("prompt_logprobs", in: 0...20)
    guard options.promptLogprobs == nil || !stream else {
      throw .invalid(
        "'prompt_logprobs' are not available when 'stream' is true", param: "prompt_logprobs", code: "invalid_value")
    }
  }

  /// Reads `best_of`. The route has set `showsLogprobs`.
  /// - Throws: `APIError`, 400, that names the field
  mutating func readCandidates(_ fields: RequestFields) throws(APIError) {
    guard let count = try fields.integer("best_of", in: 1...Self.maximumChoices), count != choicesPerPrompt else {
      return
    }
    guard count > choicesPerPrompt else {
      throw .invalid("'best_of' must be at least 'n'", param: "best_of", code: "invalid_value")
    }
    guard !stream else {
      throw .invalid(
        "'best_of' above 'n' cannot be streamed: which answers are best is known at the end", param: "best_of",
        code: "invalid_value")
    }
    candidatesPerPrompt = count
    // The best candidates are chosen by their log-probabilities.
    if !showsLogprobs { options.topLogprobs = 0 }
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
    guard options.sampling.minimumTokens <= options.maxTokens else {
      throw .invalid(
        "'min_tokens' must be at most the limit on tokens, which is \(options.maxTokens)", param: "min_tokens",
        code: "invalid_value")
    }
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
    if stream { return }
    let promptTokens = prompts.reduce(0) { $0 + $1.count }
    var count = 0
    if showsLogprobs, let logprobs = options.topLogprobs {
      let positions =
        ((options.echoesPrompt ? promptTokens : 0) + prompts.count * options.maxTokens) * candidatesPerPrompt
      count = positions * (logprobs + 1)
      guard count <= Self.maximumLogprobs else {
        throw .invalid(
          "The answer could have \(positions) tokens with \(logprobs + 1) log-probabilities each, and at most "
            + "\(Self.maximumLogprobs) are held at once; ask for fewer tokens, choices or prompts, or stream",
          param: "logprobs", code: "invalid_value")
      }
    }
    guard let promptLogprobs = options.promptLogprobs else { return }
    // An entry has three members and a text.
    count += promptTokens * (promptLogprobs + 1) * 4 * candidatesPerPrompt
    guard count <= Self.maximumLogprobs else {
      throw .invalid(
        "The answer would have \(promptTokens) tokens of prompts with \(promptLogprobs + 1) log-probabilities each for "
          + "\(candidatesPerPrompt) choices, which is too much to hold at once; ask for fewer prompts or choices",
        param: "prompt_logprobs", code: "invalid_value")
    }
  }

  // MARK: fields

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
