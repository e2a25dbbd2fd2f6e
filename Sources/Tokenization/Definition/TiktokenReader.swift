import Formats

/// Reads Llama 3's tokenizer.model: a line for each rank with the token's bytes in Base64, a space and the rank, as tiktoken
/// writes them. The special tokens are not in the file.
struct TiktokenReader {
  let data: [UInt8]
  let subject: String

  /// Whether a file's bytes can be such lines; SentencePiece's files begin with byte 10.
  static func isTiktoken(_ data: [UInt8]) -> Bool {
    guard let end = data.prefix(4096).firstIndex(of: UInt8(ascii: " ")), end > 0 else { return false }
    return data[..<end].allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "+"), UInt8(ascii: "/"), UInt8(ascii: "="):
        true
      default: false
      }
    }
  }

  private func failure(_ reason: String) -> ModelError { ModelError(subject, "tokenizer.model", reason: reason) }

  /// - Parameter special: of tokenizer_config.json; empty for the names that Llama 3.1 has
  func definition(special: [AddedToken]) throws(ModelError) -> TokenizerDefinition {
    var tokens = RankedTokens()
    // One line at a time: a list of all lines could take many times the file's memory.
    var rest = data[...]
    while let start = rest.firstIndex(where: { $0 != UInt8(ascii: "\n") }) {
      let line = rest[start...].prefix { $0 != UInt8(ascii: "\n") }
      rest = rest[line.endIndex...]
      let index = tokens.tokens.count
      let parts = line.split(separator: UInt8(ascii: " "), maxSplits: 2)
      guard parts.count == 2, let rank = Int(String(decoding: parts[1], as: UTF8.self)), rank == index else {
        throw failure("line \(index + 1) is no token of rank \(index)")
      }
      if let problem = tokens.append(base64: String(decoding: parts[0], as: UTF8.self)) {
        throw failure("line \(index + 1): \(problem)")
      }
    }
    let isLlama3 = tokens.tokens.count == Self.llama3Count
    guard isLlama3 || !special.isEmpty else {
      throw failure(
        "\(tokens.tokens.count) tokens instead of Llama 3's \(Self.llama3Count), and tokenizer_config.json names no "
          + "special tokens in added_tokens_decoder")
    }
    let pattern: SplitRegex
    do {
      pattern = try SplitRegex(SplitPatterns.llama3)
    } catch {
      throw failure(error.reason)
    }
    var definition = try tokens.definition(
      firstID: 0, special: special.isEmpty ? Self.llama3Tokens : special, pattern: pattern, failure)
    definition.bosToken = definition.textTable.id(of: Array("<|begin_of_text|>".utf8))
    definition.prefixTokens = [definition.bosToken].compactMap(\.self)
    // The beginning of Meta's own generation: both end it.
    definition.eosToken = definition.textTable.id(of: Array("<|end_of_text|>".utf8))
    definition.eosTokens = ["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"].compactMap {
      definition.textTable.id(of: Array($0.utf8))
    }
    return definition
  }

  private static let llama3Count = 128_000

  private static let llama3Tokens: [AddedToken] = {
    let names = [
      "<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>",
      "<|finetune_right_pad_id|>", "<|reserved_special_token_2|>", "<|start_header_id|>", "<|end_header_id|>",
      "<|eom_id|>", "<|eot_id|>", "<|python_tag|>",
    ]
    let reserved = (3..<3 + 256 - names.count).map { "<|reserved_special_token_\($0)|>" }
    return (names + reserved).enumerated().map { index, name in
      AddedToken(id: Int32(llama3Count + index), content: name, isSpecial: true)
    }
  }()
}
