import Formats

/// Builds the definition from a GGUF file's metadata (`tokenizer.ggml.*` of the GGUF specification).
extension TokenizerDefinition {
  /// `tokenizer.ggml.token_type`
  private typealias TokenType = SentencePieceFile.PieceType

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
    let added = types.enumerated().filter { [.control, .userDefined, .unknown].contains($0.element) }.map { id, type in
      AddedToken(id: Int32(id), content: vocabulary.tokens[id], isSpecial: type != .userDefined)
    }
    if let problem = AddedTokenMatcher.problem(added) { throw failure("tokens", problem) }

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
      model = .bytePairs(
        BytePairModel(
          byteLevel: vocabulary.tokens, textTable, merges, takesWholePieces: split.takesWholePieces, missingByte: -1
        ) { types[$0] != .normal })
      decoding = .byteLevel
    case "gemma4":
      // SentencePiece's alphabet with merges; lines are split as llama.cpp does.
      guard let lines = SplitPatterns(named: vocabulary.model) else { throw failure("model", "has no pattern") }
      model = .bytePairs(try Self.mergedModel(vocabulary, textTable, types, failure))
      normalizer = Normalizer(steps: [.replace([UInt8(ascii: " ")], with: metaspaceBytes)])
      preTokenizer = try Self.preTokenizer(lines, failure)
      decoding = .text(replacements: [(metaspaceBytes, [UInt8(ascii: " ")])], byteTokens: true)
    case "llama":
      model = .bytePairs(try Self.scoredModel(vocabulary, types, failure))
      let space: [UInt8] = [UInt8(ascii: " ")]
      let prefix: [NormalizerStep] = vocabulary.addSpacePrefix ? [.prepend(space)] : []
      normalizer = Normalizer(steps: prefix + [.replace(space, with: metaspaceBytes)])
      preTokenizer = PreTokenizer(steps: [])
      decoding = .text(replacements: [(metaspaceBytes, space)], byteTokens: true)
      spacesDroppedAtStart = vocabulary.addSpacePrefix ? 1 : 0
    case "t5":
      model = .unigram(try Self.unigramModel(vocabulary, types, failure))
      normalizer = Normalizer(steps: [.sentencePiece(try Self.sentencePieceNormalizer(vocabulary, types, failure))])
      preTokenizer = PreTokenizer(steps: [])
      decoding = .text(replacements: [(metaspaceBytes, [UInt8(ascii: " ")])], byteTokens: true)
      spacesDroppedAtStart = vocabulary.removesExtraSpaces ? .max : vocabulary.addSpacePrefix ? 1 : 0
    case "bert": throw failure("model", "'bert' is not supported: WordPiece belongs to encoders, which write no text")
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

  static func preTokenizer(
    _ split: SplitPatterns, _ failure: (String, String) -> ModelError
  ) throws(ModelError) -> PreTokenizer {
    do {
      var steps: [PreTokenizerStep] = []
      if let pattern = split.digitGroups { steps.append(.digitGroups(try SplitRegex(pattern), isolating: true)) }
      for pattern in split.patterns { steps.append(.split(try SplitRegex(pattern), .isolated, inverted: false)) }
      if let pattern = split.innerDigitGroups { steps.append(.digitGroups(try SplitRegex(pattern), isolating: false)) }
      return PreTokenizer(steps: steps)
    } catch {
      throw failure("pre", error.reason)
    }
  }

  static func merges(
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
}
