import Model
import Tokenization

/// A completion between two texts: `suffix` of `POST /v1/completions`. Models that were trained for it have tokens that mark
/// what comes before and after.
struct FillInMiddle {
  /// The marks' texts in the vocabularies of CodeLlama, StarCoder, Qwen Coder, DeepSeek Coder, CodeGemma, Granite and others.
  private static let before = [
    "<|fim_prefix|>", "<fim_prefix>", "<fim-prefix>", "<｜fim▁begin｜>", "▁<PRE>", "<PRE>", "<|code_prefix|>",
    "<|prefix|>",
  ]
  private static let after = [
    "<|fim_suffix|>", "<fim_suffix>", "<fim-suffix>", "<｜fim▁hole｜>", "▁<SUF>", "<SUF>", "<|code_suffix|>",
    "<|suffix|>",
  ]
  private static let middle = [
    "<|fim_middle|>", "<fim_middle>", "<fim-middle>", "<｜fim▁end｜>", "▁<MID>", "<MID>", "<|code_middle|>", "<|middle|>",
  ]
  /// Tokens behind which such a model has no more text of the middle.
  private static let ends = [
    "▁<EOT>", "<EOT>", "<|fim_pad|>", "<fim_pad>", "<fim-pad>", "<|repo_name|>", "<|file_sep|>", "<|file_separator|>",
  ]

  private let marks: (before: Int32, after: Int32, middle: Int32)
  private let suffix: [Int32]
  private let bos: Int32?
  /// The tokens that end the text between.
  let endTokens: Set<Int32>

  /// - Returns: `nil` where the fields have no suffix
  /// - Throws: `APIError`, 400, for a model without such tokens
  init?(_ fields: RequestFields, _ prompts: PromptTokenizer) throws(APIError) {
    guard let text = try fields.string("suffix"), !text.isEmpty else { return nil }
    let tokenizer = prompts.tokenizer
    func first(_ names: [String]) -> Int32? { names.lazy.compactMap(tokenizer.id(of:)).first }
    guard let before = first(Self.before), let after = first(Self.after), let middle = first(Self.middle) else {
      throw .invalid(
        "'suffix' is not supported by this model: its tokenizer has no tokens for filling in the middle",
        param: "suffix", code: "unsupported_parameter")
    }
    guard try fields.bool("echo") != true else {
      throw .invalid("'suffix' and 'echo' exclude one another", param: "suffix", code: "invalid_value")
    }
    marks = (before, after, middle)
    bos = tokenizer.addsBOS ? tokenizer.bosToken : nil
    try prompts.checkLength(text.utf8.count, field: "suffix")
    suffix = Self.tokens(ofSuffix: text, prompts)
    endTokens = Set(Self.ends.compactMap(tokenizer.id(of:)) + [before, after, middle])
  }

  /// SentencePiece puts a space before a text's first word. Before a suffix it would be one that the text does not have. So, as
  /// CodeLlama's own code does, the suffix is tokenised behind a character whose tokens are then removed.
  private static func tokens(ofSuffix text: String, _ prompts: PromptTokenizer) -> [Int32] {
    let tokenizer = prompts.tokenizer
    func tokens(_ text: String) -> [Int32] {
      tokenizer.encode(
        text, parsingSpecialTokens: true, addingBOS: false, limit: prompts.contextLength + 1
      ) { [abandonment = prompts.abandonment] in abandonment.isSet }
    }
    let marker = tokens("☺")
    guard marker.first.flatMap(tokenizer.tokenText)?.hasPrefix("▁") == true else { return tokens(text) }
    let marked = tokens("☺" + text)
    return marked.starts(with: marker) ? Array(marked.dropFirst(marker.count)) : tokens(text)
  }

  /// The prompt for the text between a text and the suffix: the mark before it, the text, the mark after it, the suffix, and
  /// the mark of the middle.
  /// - Parameter tokens: of the text, with or without the beginning-of-sequence token
  func prompt(_ tokens: [Int32]) -> [Int32] {
    let text = tokens.first == bos ? tokens.dropFirst() : tokens[...]
    return (bos.map { [$0] } ?? []) + [marks.before] + text + [marks.after] + suffix + [marks.middle]
  }
}
