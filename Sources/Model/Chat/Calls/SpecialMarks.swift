import Tokenization

/// Finds a tokenizer's special tokens in the marks that a template writes around calls.
struct SpecialMarks {
  /// By their texts.
  private let tokens: [String: Int32]
  /// The texts, the longest first.
  private let texts: [String]
  /// The texts of the tokens that end an answer.
  private let ends: Set<String>

  /// - Parameter ends: tokens that end an answer, beside the model's own
  init(_ tokenizer: Tokenizer, ends: Set<Int32>) {
    var tokens: [String: Int32] = [:]
    for id in 0..<Int32(tokenizer.vocabularySize) where tokenizer.isSpecial(id) {
      if let text = tokenizer.tokenText(id), !text.isEmpty { tokens[text] = id }
    }
    self.tokens = tokens
    texts = tokens.keys.sorted { ($0.utf8.count, $0) > ($1.utf8.count, $1) }
    self.ends = Set(tokens.filter { ends.union(tokenizer.eosTokens).contains($0.value) }.keys)
  }

  /// The pieces of a mark, up to the first token that ends an answer.
  func pieces(_ mark: String) -> [CallMarks.Piece] {
    var pieces: [CallMarks.Piece] = []
    var text = ""
    var rest = mark[...]
    func add(_ text: inout String) {
      if !text.isEmpty { pieces.append(.text(text)) }
      text = ""
    }
    while let first = rest.first {
      guard let special = texts.first(where: { rest.hasPrefix($0) }) else {
        text.append(first)
        rest.removeFirst()
        continue
      }
      add(&text)
      if ends.contains(special) { return pieces }
      pieces.append(.special(special))
      rest.removeFirst(special.count)
    }
    add(&text)
    return pieces
  }

  /// The special tokens of a form.
  func tokens(of form: ToolCallForm) -> Set<Int32> {
    guard case .marked(let marks) = form else { return [] }
    return Set(marks.specialTexts.compactMap { tokens[$0] })
  }
}
