public import Grammars
public import Tokenization

extension TokenVocabulary {
  /// A tokenizer's tokens as bytes. Special tokens have no text of their own.
  public init(_ tokenizer: Tokenizer) {
    let tokens = (0..<Int32(tokenizer.vocabularySize)).map { id -> [UInt8]? in
      tokenizer.isSpecial(id) ? nil : tokenizer.tokenBytes(id)
    }
    self.init(tokens: tokens, endTokens: [])
  }
}
