import Tokenization
import Formats
import Model

/// Tokenises prompts. The work is limited by the context: a text that is certainly too long is refused by its bytes, and
/// tokenising stops at the context's end, or when the client has left.
struct PromptTokenizer: Sendable {
  let tokenizer: Tokenizer
  let contextLength: Int
  let abandonment: Abandonment

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
    let tokens = tokenizer.encode(text, parsingSpecialTokens: true, limit: contextLength + 1) { [abandonment] in
      abandonment.isSet
    }
    guard tokens.count <= contextLength else {
      throw .exceedsContext(contextLength, prompt: tokens.count, completion: 0, param: field, isMinimum: true)
    }
    return tokens
  }

  /// The tokens of a chat as the model's template renders it.
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

  /// Reads a list of token ids.
  func tokens(_ values: [JSONValue], field: String) throws(APIError) -> [Int32] {
    guard values.count <= contextLength else {
      throw .exceedsContext(contextLength, prompt: values.count, completion: 0, param: field)
    }
    return try CompletionRequest.tokens(values, tokenizer, field: field)
  }
}
