import Formats

/// The models of GGUF files whose tokens are written as SentencePiece writes them.
extension TokenizerDefinition {
  typealias PieceType = SentencePieceFile.PieceType

  /// SentencePiece's BPE.
  static func scoredModel(
    _ vocabulary: GGUFVocabulary, _ types: [PieceType], _ failure: (String, String) -> ModelError
  ) throws(ModelError) -> BytePairModel {
    try checkScores(vocabulary, failure)
    let fallback = BytePairModel.ScalarFallback(
      byteTokens: try byteTokens(vocabulary, types, failure), unknown: vocabulary.unknownToken, fusesUnknown: false)
    return BytePairModel(texts: vocabulary.tokens, scores: vocabulary.scores, fallback: fallback) {
      types[$0] == .normal
    }
  }

  /// BPE with merges over characters.
  static func mergedModel(
    _ vocabulary: GGUFVocabulary, _ texts: ByteStringTable, _ types: [PieceType],
    _ failure: (String, String) -> ModelError
  ) throws(ModelError) -> BytePairModel {
    let merges = try merges(vocabulary, texts, failure) { types[Int($0)] != .normal }
    let pieces = ByteStringTable(vocabulary.tokens.map { Array($0.utf8) }) { types[$0] == .normal }
    let fallback = BytePairModel.ScalarFallback(
      byteTokens: try byteTokens(vocabulary, types, failure), unknown: vocabulary.unknownToken, fusesUnknown: false)
    return BytePairModel(
      alphabet: .scalars(fallback), rule: .pairs(merges.table), pieces: pieces, takesWholePieces: false,
      cutsAtMetaspace: !merges.crossesMetaspace && pieces.id(of: metaspaceBytes) != nil)
  }

  static func unigramModel(
    _ vocabulary: GGUFVocabulary, _ types: [PieceType], _ failure: (String, String) -> ModelError
  ) throws(ModelError) -> UnigramModel {
    try checkScores(vocabulary, failure)
    guard let unknown = vocabulary.unknownToken else { throw failure("unknown_token_id", "missing") }
    var scores = vocabulary.scores.map(Double.init)
    var lowest = Double(Float.greatestFiniteMagnitude)
    var pieces: [(bytes: [UInt8], value: Int32)] = []
    var byteCount = 0
    for (id, text) in vocabulary.tokens.enumerated() where !text.isEmpty {
      guard types[id] == .normal || types[id] == .userDefined || types[id] == .unused else { continue }
      let bytes = Array(text.utf8)
      if let problem = UnigramModel.problem(bytes, total: &byteCount) {
        throw failure("tokens", "token \(id) \(problem)")
      }
      if types[id] == .normal { lowest = min(lowest, scores[id]) }
      if types[id] == .userDefined { scores[id] = 0 }
      pieces.append((bytes, Int32(id)))
    }
    return UnigramModel(
      pieces: pieces, scores: scores, lowestScore: lowest, unknown: unknown, byteTokens: [], precision: .double)
  }

  static func sentencePieceNormalizer(
    _ vocabulary: GGUFVocabulary, _ types: [PieceType], _ failure: (String, String) -> ModelError
  ) throws(ModelError) -> SentencePieceNormalizer {
    var normalizer = SentencePieceNormalizer()
    if !vocabulary.precompiledCharsmap.isEmpty {
      do {
        normalizer.charsmap = try PrecompiledCharsmap(vocabulary.precompiledCharsmap)
      } catch {
        throw failure("precompiled_charsmap", error.reason)
      }
    }
    normalizer.verbatim = ByteTrie(
      vocabulary.tokens.enumerated().filter { types[$0.offset] == .userDefined && !$0.element.isEmpty }.map {
        (Array($0.element.utf8), Int32($0.offset))
      })
    normalizer.prefix = vocabulary.addSpacePrefix ? .always : .never
    normalizer.removesExtraSpaces = vocabulary.removesExtraSpaces
    return normalizer
  }

  private static func checkScores(
    _ vocabulary: GGUFVocabulary, _ failure: (String, String) -> ModelError
  ) throws(ModelError) {
    guard vocabulary.scores.count == vocabulary.tokens.count else {
      throw failure("scores", "\(vocabulary.scores.count) scores for \(vocabulary.tokens.count) tokens")
    }
    if let id = vocabulary.scores.firstIndex(where: \.isNaN) { throw failure("scores", "token \(id)'s is no number") }
  }

  /// The ids of <0x00> to <0xFF>, −1 where there is none.
  private static func byteTokens(
    _ vocabulary: GGUFVocabulary, _ types: [PieceType], _ failure: (String, String) -> ModelError
  ) throws(ModelError) -> [Int32] {
    var byteTokens = [Int32](repeating: -1, count: 256)
    for (id, type) in types.enumerated() where type == .byte {
      guard let byte = sentencePieceByte(vocabulary.tokens[id]) else {
        throw failure("tokens", "byte token \(id), '\(vocabulary.tokens[id])', is no <0xNN>")
      }
      byteTokens[Int(byte)] = Int32(id)
    }
    return byteTokens
  }
}

extension BytePairModel {
  /// SentencePiece's BPE: two neighbours merge if their texts together are a token, the token of the highest score first.
  /// - Parameters:
  ///   - scores: none is NaN
  ///   - isMerged: whether merging makes a token
  init(texts: [String], scores: [Float], fallback: ScalarFallback, isMerged: (Int) -> Bool) {
    let order = scores.indices.sorted { scores[$0] > scores[$1] }
    var ranks = [UInt32](repeating: 0, count: order.count)
    var rank: UInt32 = 0
    for (index, id) in order.enumerated() {
      if index > 0 && scores[id] < scores[order[index - 1]] { rank += 1 }
      ranks[id] = rank
    }
    let pieces = ByteStringTable(texts.map { Array($0.utf8) }, isKey: isMerged)
    let crosses = texts.indices.contains { isMerged($0) && hasInnerMetaspace(Array(texts[$0].utf8)) }
    // A run of unknown characters that becomes one token must not be cut.
    let isWhole = fallback.fusesUnknown && pieces.id(of: metaspaceBytes) == nil
    self.init(
      alphabet: .scalars(fallback), rule: .scores(ranks), pieces: pieces, takesWholePieces: false,
      cutsAtMetaspace: !crosses && !isWhole)
  }
}
