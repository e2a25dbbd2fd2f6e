import Formats

extension TokenizerDefinition {
  /// Builds the definition from a tokenizer.model of SentencePiece.
  /// - Parameter prefixesEverySegment: a space is put before the text behind each special token too, not only before the
  ///   whole text
  init(_ file: SentencePieceFile, prefixesEverySegment: Bool) throws(ModelError) {
    guard !file.pieces.isEmpty else { throw file.failure("pieces", "missing") }
    texts = file.pieces.map(\.text)
    textTable = ByteStringTable(file.pieces.map { Array($0.text.utf8) }) { _ in true }
    var unknown: Int32?
    for (id, piece) in file.pieces.enumerated() {
      if textTable.id(of: Array(piece.text.utf8)) != Int32(id) {
        throw file.failure("pieces[\(id)]", "'\(piece.text)' is there twice")
      }
      guard piece.type == .unknown else { continue }
      if unknown != nil { throw file.failure("pieces[\(id)]", "is a second unknown token") }
      unknown = Int32(id)
    }
    guard let unknown else { throw file.failure("pieces", "no unknown token") }
    let byteTokens = try Self.byteTokens(file)
    addedTokens = try Self.addedTokens(file)
    model =
      file.modelType == .bpe
      ? .bytePairs(try Self.scoredModel(file, byteTokens, unknown: unknown))
      : .unigram(try Self.unigramModel(file, byteTokens, unknown: unknown))
    // A unigram model chooses its user-defined tokens itself.
    findsAddedTokensVerbatim = true

    var steps = SentencePieceNormalizer()
    if !file.charsmap.isEmpty {
      do {
        steps.charsmap = try PrecompiledCharsmap(file.charsmap)
      } catch {
        throw file.failure("normalizer_spec.precompiled_charsmap", error.reason)
      }
    }
    steps.verbatim = ByteTrie(
      file.pieces.enumerated().filter { $0.element.type == .userDefined }.map {
        (Array($0.element.text.utf8), Int32($0.offset))
      })
    steps.prefix = !file.addsDummyPrefix ? .never : prefixesEverySegment ? .always : .first
    steps.removesExtraSpaces = file.removesExtraSpaces
    steps.escapesSpaces = file.escapesSpaces
    normalizer = Normalizer(steps: [.sentencePiece(steps)])
    preTokenizer = PreTokenizer(steps: [])
    decoding = .text(replacements: [(metaspaceBytes, [UInt8(ascii: " ")])], byteTokens: file.hasByteFallback)
    spacesDroppedAtStart = file.removesExtraSpaces ? .max : file.addsDummyPrefix ? 1 : 0

    bosToken = Self.control(file.bosPiece, in: file, textTable)
    prefixTokens = [bosToken].compactMap(\.self)
    eosToken = Self.control(file.eosPiece, in: file, textTable)
    eosTokens = [eosToken].compactMap(\.self)
  }

  private static func control(_ text: String, in file: SentencePieceFile, _ table: ByteStringTable) -> Int32? {
    table.id(of: Array(text.utf8)).flatMap { file.pieces[Int($0)].type == .control ? $0 : nil }
  }

  /// Special tokens, and those of a BPE model that are user-defined: the model never merges them.
  private static func addedTokens(_ file: SentencePieceFile) throws(ModelError) -> [AddedToken] {
    var tokens: [AddedToken] = []
    for (id, piece) in file.pieces.enumerated() {
      let isSpecial = piece.type == .control || piece.type == .unknown
      guard isSpecial || (piece.type == .userDefined && file.modelType == .bpe) else { continue }
      tokens.append(
        AddedToken(id: Int32(id), content: piece.text, isSpecial: isSpecial, isNormalized: !isSpecial))
    }
    if let problem = AddedTokenMatcher.problem(tokens) { throw file.failure("pieces", problem) }
    return tokens
  }

  /// The ids of <0x00> to <0xFF>; none without byte fallback.
  private static func byteTokens(_ file: SentencePieceFile) throws(ModelError) -> [Int32] {
    var ids = [Int32](repeating: -1, count: 256)
    for (id, piece) in file.pieces.enumerated() where piece.type == .byte {
      guard file.hasByteFallback else { throw file.failure("pieces[\(id)]", "is a byte without byte_fallback") }
      guard let byte = sentencePieceByte(piece.text) else {
        throw file.failure("pieces[\(id)]", "'\(piece.text)' is a byte, but no <0xNN>")
      }
      ids[Int(byte)] = Int32(id)
    }
    if !file.hasByteFallback { return [] }
    if let byte = ids.firstIndex(of: -1) {
      let text = String(decoding: sentencePieceText(of: UInt8(byte)), as: UTF8.self)
      throw file.failure("trainer_spec.byte_fallback", "'\(text)' is missing")
    }
    return ids
  }

  private static func scoredModel(
    _ file: SentencePieceFile, _ byteTokens: [Int32], unknown: Int32
  ) throws(ModelError) -> BytePairModel {
    if let id = file.pieces.firstIndex(where: { $0.type == .unused }) {
      throw file.failure("pieces[\(id)]", "is unused, which is not supported in a BPE model")
    }
    return BytePairModel(
      texts: file.pieces.map(\.text), scores: file.pieces.map(\.score),
      fallback: BytePairModel.ScalarFallback(byteTokens: byteTokens, unknown: unknown, fusesUnknown: true)
    ) { file.pieces[$0].type == .normal }
  }

  private static func unigramModel(
    _ file: SentencePieceFile, _ byteTokens: [Int32], unknown: Int32
  ) throws(ModelError) -> UnigramModel {
    let lowest = file.pieces.lazy.filter { $0.type == .normal }.map(\.score).min() ?? .greatestFiniteMagnitude
    var scores = file.pieces.map { Double($0.score) }
    var pieces: [(bytes: [UInt8], value: Int32)] = []
    var byteCount = 0
    for (id, piece) in file.pieces.enumerated() where piece.type == .normal || piece.type == .userDefined {
      let bytes = Array(piece.text.utf8)
      if let problem = UnigramModel.problem(bytes, total: &byteCount) {
        throw file.failure("pieces[\(id)]", problem)
      }
      // Higher than all others', so that the model chooses it wherever it can.
      if piece.type == .userDefined { scores[id] = Double(Float(0.1 * Double(bytes.count - 1))) }
      pieces.append((bytes, Int32(id)))
    }
    return UnigramModel(
      pieces: pieces, scores: scores, lowestScore: Double(lowest), unknown: unknown, byteTokens: byteTokens,
      precision: .single)
  }
}
