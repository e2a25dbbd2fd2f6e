import Tokenization
import Formats
import Model

/// Makes prompts' tokens with work that the context bounds: a text that cannot fit is refused by its bytes, one that
/// turns out not to fit is tokenised no further, and nothing more is done for a client that has left.
struct PromptTokenizer: Sendable {
  let tokenizer: Tokenizer
  let contextLength: Int
  let abandonment: Abandonment

  /// Text of more bytes has more than `contextLength` tokens. Four times what the longest tokens would need, since
  /// normalisation may shorten a text.
  private var maximumBytes: Int {
    let (bytes, overflow) = contextLength.multipliedReportingOverflow(by: 4 * max(tokenizer.longestTokenBytes, 1))
    return overflow ? .max : max(bytes, 1 << 20)
  }

  /// - Parameters:
  ///   - bytes: of a prompt's text
  ///   - field: what errors name
  /// - Throws: `APIError`, 400, for a text that cannot fit
  func checkLength(_ bytes: Int, field: String) throws(APIError) {
    guard bytes <= maximumBytes else {
      throw .exceedsContext(
        contextLength, prompt: bytes / max(tokenizer.longestTokenBytes, 1), completion: 0, param: field,
        isMinimum: true)
    }
  }

  /// The ids of a prompt's text, special tokens parsed.
  /// - Throws: `APIError`, 400, for one of more than `contextLength` tokens
  func encode(_ text: String, field: String) throws(APIError) -> [Int32] {
    try checkLength(text.utf8.count, field: field)
    let tokens = tokenizer.encode(text, parsingSpecialTokens: true, limit: contextLength + 1) { [abandonment] in
      abandonment.isSet
    }
    guard tokens.count <= contextLength else {
      throw .exceedsContext(contextLength, prompt: tokens.count, completion: 0, param: field, isMinimum: true)
    }
    return tokens
  }

  /// The prompt of a chat as the model's template renders it.
  /// - Throws: `APIError`, 400, for one of more than `contextLength` tokens, or one that the template refuses
  func encode(_ chat: Conversation, _ format: ChatFormat) throws(APIError) -> ChatFormat.Prompt {
    try checkLength(chat.textBytes, field: "messages")
    let prompt: ChatFormat.Prompt
    do throws(ChatFormatError) {
      prompt = try format.prompt(chat, limit: contextLength + 1) { [abandonment] in abandonment.isSet }
    } catch { throw error.apiError }
    guard prompt.tokens.count <= contextLength else {
      throw .exceedsContext(
        contextLength, prompt: prompt.tokens.count, completion: 0, param: "messages", isMinimum: true)
    }
    return prompt
  }

  /// A list of ids that the tokenizer knows.
  func tokens(_ values: [JSONValue], field: String) throws(APIError) -> [Int32] {
    guard values.count <= contextLength else {
      throw .exceedsContext(contextLength, prompt: values.count, completion: 0, param: field)
    }
    return try CompletionRequest.tokens(values, tokenizer, field: field)
  }
}
