import Tokenization
import Formats
import Model

/// The body of `POST /v1/completions`.
enum CompletionRequest {
  static let maximumPrompts = 128

  /// Parses and checks the body's fields.
  /// - Throws: `APIError`, 400, that names the field
  static func parse(
    _ fields: RequestFields, prompts tokenizer: PromptTokenizer, grammars: GrammarCache
  ) throws(APIError) -> AnswerRequest {
    let contextLength = tokenizer.contextLength
    var request = try AnswerRequest(fields, tokenizer.tokenizer)
    request.options.echoesPrompt = try fields.bool("echo") ?? false
    request.options.topLogprobs = try logprobCount(fields)
    request.showsLogprobs = request.options.topLogprobs != nil
    request.options.maxTokens = try fields.integer("max_tokens", in: 0...contextLength) ?? 16
    if request.options.maxTokens == 0, !request.options.echoesPrompt {
      throw .invalid(
        "'max_tokens' must be at least 1 unless 'echo' is true", param: "max_tokens", code: "invalid_value")
    }
    try request.readCandidates(fields)
    let text = try ConstraintFields(fields).constraint
    let suffix = try FillInMiddle(fields, tokenizer)
    let prompts = tokenizer.keepingLast(
      try fields.promptTokensKept(
        contextLength, answer: request.options.maxTokens + (suffix?.prompt([]).count ?? 0)))
    request.prompts = try Self.prompts(fields, prompts, field: "prompt", maximum: maximumPrompts)
    if let suffix {
      request.prompts = request.prompts.map(suffix.prompt)
      request.options.endTokens.formUnion(suffix.endTokens)
    }
    try request.check(contextLength: contextLength, promptField: "prompt")
    // Last, because compiling takes the longest.
    if let text { request.options.constraint = try grammars.compiled(text.value, param: text.param).grammar }
    return request
  }

  private static func logprobCount(_ fields: RequestFields) throws(APIError) -> Int? {
    if fields["logprobs"]?.bool == false { return nil }
    return try fields.integer("logprobs", in: 0...20)
  }

  /// The prompts of a field: a string, a list of strings, a list of token ids, or a list of lists of token ids.
  static func prompts(
    _ fields: RequestFields, _ tokenizer: PromptTokenizer, field: String, maximum: Int
  ) throws(APIError) -> [[Int32]] {
    let expected = "a string, a list of strings, a list of token ids or a list of lists of token ids"
    guard let value = fields[field] else {
      throw .invalid("'\(field)' is missing", param: field, code: "missing_required_parameter")
    }
    switch value {
    case .string(let text): return [try tokenizer.encode(text, field: field)]
    case .array(let values):
      guard let first = values.first else { throw fields.wrong(field, expected) }
      if first.integer != nil { return [try tokenizer.tokens(values, field: field)] }
      guard values.count <= maximum else {
        throw .invalid("'\(field)' holds more than \(maximum) prompts", param: field, code: "invalid_value")
      }
      var prompts: [[Int32]] = []
      for value in values {
        switch value {
        case .string(let text): prompts.append(try tokenizer.encode(text, field: field))
        case .array(let ids): prompts.append(try tokenizer.tokens(ids, field: field))
        default: throw fields.wrong(field, expected)
        }
      }
      return prompts
    default: throw fields.wrong(field, expected)
    }
  }

  /// Reads a list of token ids.
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
