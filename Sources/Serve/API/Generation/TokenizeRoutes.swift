import Tokenization
import Formats
import Model

/// `POST /tokenize` and `POST /detokenize`, with vLLM's fields.
struct TokenizeRoutes: Sendable {
  let context: ServerContext
  let abandonment: Abandonment

  /// Text can be longer than the context here, since a client may only want its length.
  private static let maximumBytes = 4 << 20

  private var isAbandoned: () -> Bool { { [abandonment] in abandonment.isSet } }

  private static func checkLength(_ bytes: Int, field: String) throws(APIError) {
    guard bytes <= maximumBytes else {
      throw .invalid(
        "'\(field)' has \(bytes) bytes of text, of which at most \(maximumBytes) are tokenised", param: field,
        code: "request_too_large", status: 413)
    }
  }

  /// The tokens of a prompt, or of a chat as the model's template renders it.
  func tokenize(_ fields: RequestFields) throws(APIError) -> JSONValue {
    let tokens: [Int32]
    if fields["messages"] != nil {
      let chat = try ChatRequest.conversation(fields, ToolFields(fields))
      let addsBOS = try fields.bool("add_special_tokens") ?? false
      try Self.checkLength(chat.textBytes, field: "messages")
      let format = try context.chatFormat()
      do throws(ChatFormatError) {
        tokens = try format.prompt(chat, addingBOS: addsBOS, isCancelled: isAbandoned).tokens
      } catch { throw error.apiError }
    } else {
      guard let prompt = try fields.string("prompt") else {
        throw .invalid("'prompt' is missing", param: "prompt", code: "missing_required_parameter")
      }
      let addsSpecial = try fields.bool("add_special_tokens") ?? true
      try Self.checkLength(prompt.utf8.count, field: "prompt")
      tokens = context.tokenizer.encode(
        prompt, parsingSpecialTokens: true, addingBOS: addsSpecial ? nil : false, isCancelled: isAbandoned)
    }
    let showsTexts = try fields.bool("return_token_strs") ?? false
    let texts = tokens.map { JSONValue.string(context.tokenizer.tokenText($0) ?? "") }
    return [
      "count": .integer(tokens.count), "max_model_len": .integer(context.contextLength),
      "tokens": .array(tokens.map { .integer(Int($0)) }), "token_strs": showsTexts ? .array(texts) : .null,
    ]
  }

  /// What clients without the model's tokenizer must know of it, with vLLM's fields: special tokens and the chat template.
  static func information(_ tokenizer: Tokenizer) -> JSONValue {
    func text(_ token: Int32?) -> JSONValue { token.flatMap(tokenizer.tokenText).map { .string($0) } ?? .null }
    return [
      "bos_token": text(tokenizer.bosToken), "eos_token": text(tokenizer.eosToken),
      "chat_template": tokenizer.chatTemplate.map { .string($0) } ?? .null,
    ]
  }

  /// The text of tokens, with special tokens.
  func detokenize(_ fields: RequestFields) throws(APIError) -> JSONValue {
    guard let value = fields["tokens"] else {
      throw .invalid("'tokens' is missing", param: "tokens", code: "missing_required_parameter")
    }
    guard let list = value.array else { throw fields.wrong("tokens", "a list of token ids") }
    let tokens = try CompletionRequest.tokens(list, context.tokenizer, field: "tokens")
    return ["prompt": .string(context.tokenizer.decode(tokens, skippingSpecialTokens: false))]
  }
}
