import Formats

/// Reads Mistral's tekken.json: tokens of bytes by rank behind a number of special tokens, and the pattern that splits text
/// (mistral_common, tekken.py).
struct TekkenReader {
  let document: JSONTree
  let subject: String

  private func failure(_ field: String, _ reason: String) -> ModelError {
    ModelError(subject, "tekken.json", field, reason: reason)
  }

  func definition() throws(ModelError) -> TokenizerDefinition {
    guard let config = document["config"] else { throw failure("config", "missing") }
    let size = try count("default_vocab_size", config)
    let specialCount = try count("default_num_special_tokens", config)
    guard specialCount < size, size <= TokenizerDefinition.largestVocabulary else {
      throw failure("config", "a vocabulary of \(size), of which \(specialCount) are special tokens")
    }
    guard let vocabulary = document["vocab"]?.array, vocabulary.count >= size - specialCount else {
      throw failure("vocab", "less than \(size - specialCount) tokens")
    }
    var tokens = RankedTokens()
    for (rank, entry) in vocabulary.prefix(size - specialCount).enumerated() {
      guard entry["rank"]?.tokenID == Int32(rank), let bytes = entry["token_bytes"]?.string else {
        throw failure("vocab[\(rank)]", "without rank \(rank) or token_bytes")
      }
      if let problem = tokens.append(base64: bytes) { throw failure("vocab[\(rank)]", problem) }
    }
    guard let text = config["pattern"]?.string else { throw failure("config.pattern", "missing") }
    let pattern: SplitRegex
    do {
      pattern = try SplitRegex(text)
    } catch {
      throw failure("config.pattern", error.reason)
    }
    let special = try specialTokens(count: specialCount)
    var definition = try tokens.definition(firstID: specialCount, special: special, pattern: pattern) {
      failure("vocab", $0)
    }
    // The names that mistral_common asks for.
    definition.bosToken = special.first { $0.content == "<s>" }?.id
    definition.prefixTokens = [definition.bosToken].compactMap(\.self)
    definition.eosToken = special.first { $0.content == "</s>" }?.id
    definition.eosTokens = [definition.eosToken].compactMap(\.self)
    return definition
  }

  private func count(_ field: StaticString, _ config: JSONTree) throws(ModelError) -> Int {
    guard let value = config[field]?.tokenID else {
      throw failure("config.\(field)", "missing, or no number of tokens")
    }
    return Int(value)
  }

  /// The special tokens, with names for those that the file does not name.
  private func specialTokens(count: Int) throws(ModelError) -> [AddedToken] {
    var names = [String?](repeating: nil, count: count)
    if let entries = document["special_tokens"]?.array {
      for (index, entry) in entries.enumerated() {
        guard let rank = entry["rank"]?.tokenID, let name = entry["token_str"]?.string, !name.isEmpty else {
          throw failure("special_tokens[\(index)]", "without rank or token_str")
        }
        guard rank < count, names[Int(rank)] == nil else {
          throw failure("special_tokens[\(index)]", "the rank \(rank) is not free among \(count)")
        }
        names[Int(rank)] = name
      }
    } else {
      let version = document["config"]?["version"]?.string ?? ""
      guard Self.versionsWithoutNames.contains(version) else {
        throw failure("special_tokens", "missing in version '\(version)'")
      }
      for (rank, name) in Self.firstNames.prefix(count).enumerated() { names[rank] = name }
    }
    let tokens = names.enumerated().map { rank, name in
      AddedToken(id: Int32(rank), content: name ?? "<SPECIAL_\(rank)>", isSpecial: true)
    }
    guard Set(tokens.map { Array($0.content.utf8) }).count == count else {
      throw failure("special_tokens", "two have the same token_str")
    }
    return tokens
  }

  private static let versionsWithoutNames = ["v1", "v2", "v3", "v7"]
  /// The special tokens of files that do not list them.
  private static let firstNames = [
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]",
    "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]",
  ]
}
