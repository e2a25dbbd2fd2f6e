import Formats
import Model
import Tokenization

/// The fields that say how tokens are drawn.
extension SamplingParameters {
  /// llama.cpp's `repeat_penalty` counts so many tokens where `repeat_last_n` says nothing.
  private static let usualWindow = 64
  private static let maximumBadWords = 256
  private static let maximumBadWordBytes = 1024

  /// - Throws: `APIError`, 400, that names the field
  init(_ fields: RequestFields, _ tokenizer: Tokenizer) throws(APIError) {
    self.init(seed: 0)
    temperature = Float(try fields.number("temperature", in: 0...2) ?? 1)
    topP = Float(try fields.number("top_p", in: 0...1) ?? 1)
    // No limit is -1 in vLLM, and 0 here and in other servers.
    topK = max(try fields.integer("top_k", in: -1...Int(Int32.max)) ?? 0, 0)
    minP = Float(try fields.number("min_p", in: 0...1) ?? 0)
    try readRepetition(fields)
    presencePenalty = Float(try fields.number("presence_penalty", in: -2...2) ?? 0)
    frequencyPenalty = Float(try fields.number("frequency_penalty", in: -2...2) ?? 0)
    logitBias = try Self.logitBias(fields, vocabularySize: tokenizer.vocabularySize)
    minimumTokens = try fields.integer("min_tokens", in: 0...Int(Int32.max)) ?? 0
    badWords = try Self.badWords(fields, tokenizer)
    seed =
      try fields.integer("seed", in: Int.min...Int.max).map { UInt64(bitPattern: Int64($0)) }
      ?? .random(in: .min ... .max)
  }

  /// vLLM's `repetition_penalty` counts prompt and answer, llama.cpp's `repeat_penalty` their last tokens.
  private mutating func readRepetition(_ fields: RequestFields) throws(APIError) {
    let range = 0.01...10
    let whole = Float(try fields.number("repetition_penalty", in: range) ?? 1)
    let recent = Float(try fields.number("repeat_penalty", in: range) ?? 1)
    guard whole == 1 || recent == 1 else {
      throw .invalid(
        "'repeat_penalty' and 'repetition_penalty' exclude one another", param: "repeat_penalty",
        code: "invalid_value")
    }
    repetitionPenalty = whole * recent
    switch try fields.integer("repeat_last_n", in: -1...Int(Int32.max)) {
    case nil: repetitionWindow = recent == 1 ? nil : Self.usualWindow
    case -1: repetitionWindow = nil
    case let window: repetitionWindow = window
    }
  }

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

  /// `bad_words` as sequences of tokens. As in vLLM, each is tokenised as it stands, and once more behind a space if that
  /// begins with another token and has as many.
  private static func badWords(_ fields: RequestFields, _ tokenizer: Tokenizer) throws(APIError) -> [[Int32]] {
    guard let value = fields["bad_words"] else { return [] }
    guard let list = value.array, list.count <= maximumBadWords else {
      throw fields.wrong("bad_words", "a list of at most \(maximumBadWords) strings")
    }
    var words: [[Int32]] = []
    for value in list {
      guard let word = value.string, (1...maximumBadWordBytes).contains(word.utf8.count) else {
        throw fields.wrong("bad_words", "a list of strings of 1 to \(maximumBadWordBytes) bytes")
      }
      func tokens(_ text: String) -> [Int32] {
        tokenizer.encode(text, parsingSpecialTokens: false, addingBOS: false)
      }
      let text = String(word.drop(while: \.isWhitespace))
      guard !text.isEmpty else {
        words.append(tokens(word))
        continue
      }
      let (alone, spaced) = (tokens(text), tokens(" " + text))
      if !alone.isEmpty { words.append(alone) }
      if spaced.count == alone.count, spaced.first != alone.first, !spaced.isEmpty {
        words.append(spaced)
      }
    }
    return words
  }
}
