public import Grammars
public import Tokenization

extension TokenVocabulary {
  /// A byte that is in no text (RFC 3629). Special tokens begin with it, so that only a grammar that asks for one allows it.
  private static let mark: UInt8 = 0xFF
  /// The bytes of texts.
  static let textBytes = ByteSet([mark]).inverted
  /// The special token that Llama 3.1 writes before calls. It is not shown.
  static let callTag = special("<|python_tag|>")

  /// The bytes of a special token.
  static func special(_ text: String) -> [UInt8] { [mark] + Array(text.utf8) }

  /// A tokenizer's tokens as bytes.
  public init(_ tokenizer: Tokenizer) {
    let tokens = (0..<Int32(tokenizer.vocabularySize)).map { id -> [UInt8]? in
      guard let bytes = tokenizer.tokenBytes(id) else { return nil }
      if tokenizer.isSpecial(id) { return [Self.mark] + bytes }
      return bytes.contains(Self.mark) ? nil : bytes
    }
    self.init(tokens: tokens, endTokens: [])
  }
}
