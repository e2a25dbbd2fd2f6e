import Formats

/// Builds the definition from a GGUF file's metadata (`tokenizer.ggml.*` of the GGUF specification).
extension TokenizerDefinition {
  /// `tokenizer.ggml.token_type`
  private enum TokenType: Int32 {
    case normal = 1
    case unknown, control, userDefined, unused, byte
  }

  /// The names that model families give tokens which end a turn of a chat. GGUF has only one end-of-sequence token, so these
  /// are found by name.
  private static let turnEnds = ["<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>"]

  init(_ vocabulary: GGUFVocabulary, name: String) throws(ModelError) {
    func failure(_ field: String, _ reason: String) -> ModelError {
      ModelError(name, "tokenizer.ggml.\(field)", reason: reason)
    }
    let count = vocabulary.tokens.count
    guard count > 0, count <= Self.largestVocabulary else { throw failure("tokens", "\(count) tokens") }
    guard vocabulary.tokenTypes.isEmpty || vocabulary.tokenTypes.count == count else {
      throw failure("token_type", "\(vocabulary.tokenTypes.count) types for \(count) tokens")
    }
    for (field, id) in [
      ("bos_token_id", vocabulary.bosToken), ("eos_token_id", vocabulary.eosToken),
      ("unknown_token_id", vocabulary.unknownToken),
    ] {
      if let id, !(0..<count).contains(Int(id)) { throw failure(field, "\(id) is not in the vocabulary") }
    }
    var types = [TokenType](repeating: .normal, count: count)
    for (id, value) in vocabulary.tokenTypes.enumerated() {
      // Some writers give normal tokens the type 0, "undefined".
      guard let type = value == 0 ? .normal : TokenType(rawValue: value) else {
        throw failure("token_type", "token \(id) has the unknown type \(value)")
      }
      types[id] = type
    }
    var added: [AddedToken] = []
    var byteCount = 0
    for (id, type) in types.enumerated() where type == .control || type == .userDefined || type == .unknown {
      let content = vocabulary.tokens[id]
      byteCount += content.utf8.count
      if byteCount > AddedTokenMatcher.maximumBytes {
        throw failure("tokens", "the added ones have more than \(AddedTokenMatcher.maximumBytes) bytes together")
      }
      if content.utf8.count > AddedTokenMatcher.maximumLength {
        throw failure("tokens", "token \(id) is longer than \(AddedTokenMatcher.maximumLength) bytes")
      }
      added.append(AddedToken(id: Int32(id), content: content, isSpecial: type != .userDefined))
    }

    texts = vocabulary.tokens
    textTable = ByteStringTable(vocabulary.tokens.map { Array($0.utf8) }) { _ in true }
    addedTokens = added
    switch vocabulary.model {
    case "gpt2":
      guard let split = SplitPatterns(named: vocabulary.preTokenizer) else {
        throw failure("pre", "'\(vocabulary.preTokenizer)' is not supported")
      }
      normalizer = Normalizer(steps: split.composes ? [.nfc] : [])
      preTokenizer = try Self.preTokenizer(split, failure)
      let merges = try Self.merges(vocabulary, textTable, failure) { types[Int($0)] != .normal }
      model = BytePairModel(
        byteLevel: vocabulary.tokens, textTable, merges, takesWholePieces: split.takesWholePieces,
        missingByte: -1
      ) { types[$0] != .normal }
      decoding = .byteLevel
    case "llama":
      model = try Self.scoredModel(vocabulary, textTable, types, failure)
      let space: [UInt8] = [UInt8(ascii: " ")]
      let prefix: [NormalizerStep] = vocabulary.addSpacePrefix ? [.prepend(space)] : []
      normalizer = Normalizer(steps: prefix + [.replace(space, with: metaspaceBytes)])
      preTokenizer = PreTokenizer(steps: [])
      decoding = .text(replacements: [(metaspaceBytes, space)], byteTokens: true)
      spacesDroppedAtStart = vocabulary.addSpacePrefix ? 1 : 0
    default: throw failure("model", "'\(vocabulary.model)' is not supported")
    }
    bosToken = vocabulary.bosToken
    if vocabulary.addBOS {
      guard let bosToken else { throw failure("add_bos_token", "true without a bos_token_id") }
      prefixTokens = [bosToken]
    }
    eosToken = vocabulary.eosToken
    eosTokens = [vocabulary.eosToken].compactMap(\.self)
    for text in Self.turnEnds {
      guard let id = textTable.id(of: Array(text.utf8)), types[Int(id)] == .control else { continue }
      if !eosTokens.contains(id) { eosTokens.append(id) }
    }
    if let template = vocabulary.chatTemplate { chatTemplates["default"] = template }
  }

  private static func preTokenizer(
    _ split: SplitPatterns, _ failure: (String, String) -> ModelError
  ) throws(ModelError) -> PreTokenizer {
    var steps: [PreTokenizerStep] = []
    for pattern in split.patterns {
      do {
        steps.append(.split(try SplitRegex(pattern), .isolated, inverted: false))
      } catch {
        throw failure("pre", error.reason)
      }
    }
    return PreTokenizer(steps: steps)
  }

  private static func merges(
    _ vocabulary: GGUFVocabulary, _ texts: ByteStringTable, _ failure: (String, String) -> ModelError,
    isSpecial: @escaping (Int32) -> Bool
  ) throws(ModelError) -> MergeList {
    var merges = MergeList(texts: texts, capacity: vocabulary.merges.count, isSpecial: isSpecial)
    for (rank, line) in vocabulary.merges.enumerated() {
      guard let space = line.utf8.dropFirst().firstIndex(of: UInt8(ascii: " ")) else {
        throw failure("merges", "merge \(rank), '\(line)', is no pair")
      }
      let right = line[line.utf8.index(after: space)...]
      if let missing = merges.append(left: line[..<space], right: right, rank: rank) {
        throw failure("merges", "merge \(rank): '\(missing)' is not in the vocabulary")
      }
    }
    return merges
  }

  /// SentencePiece's BPE: two neighbours merge if their texts together are a token, the token of the highest score first.
  private static func scoredModel(
    _ vocabulary: GGUFVocabulary, _ texts: ByteStringTable, _ types: [TokenType],
    _ failure: (String, String) -> ModelError
  ) throws(ModelError) -> BytePairModel {
    guard vocabulary.scores.count == vocabulary.tokens.count else {
      throw failure("scores", "\(vocabulary.scores.count) scores for \(vocabulary.tokens.count) tokens")
    }
    if let id = vocabulary.scores.firstIndex(where: \.isNaN) { throw failure("scores", "token \(id)'s is no number") }
    let order = vocabulary.scores.indices.sorted { vocabulary.scores[$0] > vocabulary.scores[$1] }
    var ranks = [UInt32](repeating: 0, count: order.count)
    var rank: UInt32 = 0
    for (index, id) in order.enumerated() {
      if index > 0 && vocabulary.scores[id] < vocabulary.scores[order[index - 1]] { rank += 1 }
      ranks[id] = rank
    }
    let pieces = ByteStringTable(vocabulary.tokens.map { Array($0.utf8) }) { types[$0] == .normal }
    let crosses = vocabulary.tokens.indices.contains {
      types[$0] == .normal && hasInnerMetaspace(Array(vocabulary.tokens[$0].utf8))
    }
    var byteTokens = [Int32](repeating: -1, count: 256)
    for (id, type) in types.enumerated() where type == .byte {
      guard let byte = sentencePieceByte(vocabulary.tokens[id]) else {
        throw failure("tokens", "byte token \(id), '\(vocabulary.tokens[id])', is no <0xNN>")
      }
      byteTokens[Int(byte)] = Int32(id)
    }
    let fallback = BytePairModel.ScalarFallback(
      byteTokens: byteTokens, unknown: vocabulary.unknownToken, fusesUnknown: false)
    return BytePairModel(
      alphabet: .scalars(fallback), rule: .scores(ranks), pieces: pieces, takesWholePieces: false,
      cutsAtMetaspace: !crosses)
  }
}
