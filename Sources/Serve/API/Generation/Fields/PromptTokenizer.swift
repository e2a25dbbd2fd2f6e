import Tokenization
import Formats
import Model

/// Tokenises prompts. The work is limited by the context: a text that is certainly too long is refused by its bytes, and
/// tokenising stops at the context's end, or when the client has left.
struct PromptTokenizer: Sendable {
  let tokenizer: Tokenizer
  let contextLength: Int
  let abandonment: Abandonment
  /// Only so many of a prompt's last tokens are kept; `nil` for all, which are then limited by the context.
  private(set) var kept: Int?

  init(tokenizer: Tokenizer, contextLength: Int, abandonment: Abandonment) {
    self.tokenizer = tokenizer
    self.contextLength = contextLength
    self.abandonment = abandonment
  }

  /// A tokenizer that keeps only the last tokens of prompts.
  func keepingLast(_ count: Int?) -> PromptTokenizer {
    var other = self
    other.kept = count
    return other
  }

  /// Tokenising stops at so many tokens.
  private var limit: Int { kept == nil ? contextLength + 1 : .max }

  private func cut(_ tokens: [Int32]) -> [Int32] { kept.map { Array(tokens.suffix($0)) } ?? tokens }

  /// Text of more bytes certainly has more than `contextLength` tokens. It is four times the bytes of the longest tokens,
  /// since normalisation may shorten a text.
  private var maximumBytes: Int {
    let (bytes, overflow) = contextLength.multipliedReportingOverflow(by: 4 * max(tokenizer.longestTokenBytes, 1))
    return overflow ? .max : max(bytes, 1 << 20)
  }

  /// Checks a prompt's length before it is tokenised.
  /// - Parameters:
  ///   - bytes: of the prompt's text
  ///   - field: the field that errors name
  /// - Throws: `APIError`, 400, for a text that cannot fit
  func checkLength(_ bytes: Int, field: String) throws(APIError) {
    guard bytes <= maximumBytes else {
      throw .exceedsContext(
        contextLength, prompt: bytes / max(tokenizer.longestTokenBytes, 1), completion: 0, param: field,
        isMinimum: true)
    }
  }

  /// The tokens of a text, in which special tokens are recognised.
  /// - Throws: `APIError`, 400, for one of more than `contextLength` tokens
  func encode(_ text: String, field: String) throws(APIError) -> [Int32] {
    try checkLength(text.utf8.count, field: field)
    let all = tokenizer.encode(text, parsingSpecialTokens: true, limit: limit) { [abandonment] in abandonment.isSet }
    let tokens = cut(all)
    guard tokens.count <= contextLength else {
      throw .exceedsContext(contextLength, prompt: tokens.count, completion: 0, param: field, isMinimum: true)
    }
    return tokens
  }

  /// The tokens of a chat as the model's template renders it.
  /// - Throws: `APIError`, 400, for one of more than `contextLength` tokens, or one that the template refuses
  func encode(_ chat: Conversation, _ format: ChatFormat) throws(APIError) -> ChatFormat.Prompt {
    try checkLength(chat.textBytes, field: "messages")
    var prompt: ChatFormat.Prompt
    do throws(ChatFormatError) {
      prompt = try format.prompt(chat, limit: limit) { [abandonment] in abandonment.isSet }
    } catch { throw error.apiError }
    prompt.tokens = cut(prompt.tokens)
    guard prompt.tokens.count <= contextLength else {
      throw .exceedsContext(
        contextLength, prompt: prompt.tokens.count, completion: 0, param: "messages", isMinimum: true)
    }
    return prompt
  }

  /// Reads a list of token ids.
  func tokens(_ values: [JSONValue], field: String) throws(APIError) -> [Int32] {
    guard kept != nil || values.count <= contextLength else {
      throw .exceedsContext(contextLength, prompt: values.count, completion: 0, param: field)
    }
    return cut(try CompletionRequest.tokens(values, tokenizer, field: field))
  }
}

extension RequestFields {
  /// `truncate_prompt_tokens`: how many of a prompt's last tokens are kept; `nil` for all.
  /// - Parameter answer: tokens that must fit into the context behind the prompt where the field is -1
  func promptTokensKept(_ contextLength: Int, answer: Int) throws(APIError) -> Int? {
    let name = "truncate_prompt_tokens"
    guard let count = try integer(name, in: -1...contextLength) else { return nil }
    guard count != 0 else { throw wrong(name, "-1 or between 1 and \(contextLength)") }
    return count == -1 ? max(contextLength - answer, 1) : count
  }
}
