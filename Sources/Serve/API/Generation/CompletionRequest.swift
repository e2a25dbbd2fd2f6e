import Tokenization
import Formats
import Model

/// The body of `POST /v1/completions`, checked.
struct CompletionRequest {
  var plan: GenerationPlan
  var model: ModelFields

  static let maxPrompts = 128

  /// - Throws: `APIError`, 400, that names the field
  init(_ fields: RequestFields, prompts: PromptTokenizer) throws(APIError) {
    let (tokenizer, contextLength) = (prompts.tokenizer, prompts.contextLength)
    model = try ModelFields(fields)
    plan = try GenerationPlan(fields, vocabularySize: tokenizer.vocabularySize)
    plan.echo = try fields.bool("echo") ?? false
    plan.logprobs = try Self.logprobCount(fields)
    plan.maxTokens = try fields.integer("max_tokens", in: 0...contextLength) ?? 16
    if plan.maxTokens == 0, !plan.echo {
      throw .invalid(
        "'max_tokens' must be at least 1 unless 'echo' is true", param: "max_tokens", code: "invalid_value")
    }
    plan.candidatesPerPrompt =
      try fields.integer("best_of", in: 1...GenerationPlan.maxChoices) ?? plan.choicesPerPrompt
    guard plan.candidatesPerPrompt >= plan.choicesPerPrompt else {
      throw .invalid("'best_of' must be at least 'n'", param: "best_of", code: "invalid_value")
    }
    guard plan.candidatesPerPrompt == plan.choicesPerPrompt || !plan.stream else {
      throw .invalid(
        "'best_of' above 'n' cannot be streamed: which answers are best is known at the end", param: "best_of",
        code: "invalid_value")
    }
    plan.prompts = try Self.prompts(fields, prompts)
    try plan.check(contextLength: contextLength, promptField: "prompt")
  }

  private static func logprobCount(_ fields: RequestFields) throws(APIError) -> Int? {
    if fields["logprobs"]?.bool == false { return nil }
    return try fields.integer("logprobs", in: 0...20)
  }

  /// A string, a list of strings, a list of token ids, or a list of those.
  private static func prompts(
    _ fields: RequestFields, _ tokenizer: PromptTokenizer
  ) throws(APIError) -> [[Int32]] {
    let expected = "a string, a list of strings, a list of token ids or a list of lists of token ids"
    guard let value = fields["prompt"] else {
      throw .invalid("'prompt' is missing", param: "prompt", code: "missing_required_parameter")
    }
    switch value {
    case .string(let text): return [try tokenizer.encode(text, field: "prompt")]
    case .array(let values):
      guard let first = values.first else { throw fields.wrong("prompt", expected) }
      if first.integer != nil { return [try tokenizer.tokens(values, field: "prompt")] }
      guard values.count <= maxPrompts else {
        throw .invalid("'prompt' holds more than \(maxPrompts) prompts", param: "prompt", code: "invalid_value")
      }
      var prompts: [[Int32]] = []
      for value in values {
        switch value {
        case .string(let text): prompts.append(try tokenizer.encode(text, field: "prompt"))
        case .array(let ids): prompts.append(try tokenizer.tokens(ids, field: "prompt"))
        default: throw fields.wrong("prompt", expected)
        }
      }
      return prompts
    default: throw fields.wrong("prompt", expected)
    }
  }

  /// A list of ids that the tokenizer knows.
  static func tokens(
    _ values: [JSONValue], _ tokenizer: Tokenizer, field: String
  ) throws(APIError) -> [Int32] {
    var ids: [Int32] = []
    ids.reserveCapacity(values.count)
    for value in values {
      guard let id = value.integer, id >= 0, id < tokenizer.vocabularySize else {
        throw .invalid(
          "'\(field)' holds \(String(decoding: value.encoded.prefix(40), as: UTF8.self)), which is no token id "
            + "between 0 and \(tokenizer.vocabularySize - 1)", param: field, code: "invalid_value")
      }
      ids.append(Int32(id))
    }
    return ids
  }
}
