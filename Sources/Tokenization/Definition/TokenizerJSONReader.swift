import Formats

/// Reads vocabulary, merges and added tokens from tokenizer.json. The parts around them are read in
/// TokenizerJSONReader+Pipeline.swift.
struct TokenizerJSONReader {
  let document: JSONTree
  /// The model's name, for errors.
  let subject: String

  init(_ document: JSONTree, subject: String) {
    self.document = document
    self.subject = subject
  }

  func failure(_ field: String, _ reason: String) -> ModelError {
    ModelError(subject, "tokenizer.json", field, reason: reason)
  }

  func definition() throws(ModelError) -> TokenizerDefinition {
    guard let model = document["model"] else { throw failure("model", "missing") }
    // Older files do not have the field.
    let type = model["type"]?.string ?? "BPE"
    guard type == "BPE" || type == "Unigram" else { throw failure("model.type", "'\(type)' is not supported") }
    for option in ["continuing_subword_prefix", "end_of_word_suffix"] {
      if let text = member(option, of: model)?.string, !text.isEmpty {
        throw failure("model.\(option)", "'\(text)' is not supported")
      }
    }
    if case .number(let dropout)? = model["dropout"], dropout != 0 {
      throw failure("model.dropout", "\(dropout) is not supported")
    }

    let pipeline = try preTokenizer()
    let (decoding, spacesDropped) = try decoder(isByteLevel: pipeline.isByteLevel)
    var texts = type == "BPE" ? try vocabulary(model) : try unigramTexts(model)
    let ordinaryCount = texts.count
    let added = try addedTokens(&texts)
    var isSpecial = [Bool](repeating: false, count: texts.count)
    for token in added where token.isSpecial { isSpecial[Int(token.id)] = true }
    let textTable = ByteStringTable(texts.map { $0.map { Array($0.utf8) } }) { _ in true }
    let ordinary = Array(texts[..<ordinaryCount])
    let tokenModel: TokenModel
    if type == "BPE" {
      let merges = try merges(model, textTable, isSpecial)
      tokenModel = .bytePairs(
        try bytePairModel(model, texts: ordinary, textTable, merges, isSpecial, isByteLevel: pipeline.isByteLevel))
    } else {
      if pipeline.isByteLevel { throw failure("pre_tokenizer", "ByteLevel is not supported together with Unigram") }
      tokenModel = .unigram(try unigramModel(model, texts: ordinary, textTable, isSpecial))
    }

    let normalizer = try normalizer()
    // They are looked for as the normalizer writes them, which may be longer.
    var normalizedBytes = 0
    for token in added where token.isNormalized {
      normalizedBytes += normalizer.normalize(Array(token.content.utf8)).count
      if normalizedBytes > AddedTokenMatcher.maximumBytes {
        throw failure(
          "added_tokens", "have more than \(AddedTokenMatcher.maximumBytes) bytes together, once normalized")
      }
    }

    var definition = TokenizerDefinition(
      texts: texts, textTable: textTable, addedTokens: added, normalizer: normalizer,
      preTokenizer: PreTokenizer(steps: pipeline.steps), model: tokenModel, decoding: decoding)
    definition.spacesDroppedAtStart = spacesDropped
    definition.prefixTokens = try prefixTokens()
    for id in definition.prefixTokens where Int(id) >= texts.count || texts[Int(id)] == nil {
      throw failure("post_processor", "token \(id) is not in the vocabulary")
    }
    return definition
  }

  /// The value of a key that is no literal; of equal keys the last.
  func member(_ name: String, of tree: JSONTree) -> JSONTree? {
    tree.members?.last { $0.key.utf8.elementsEqual(name.utf8) }?.value
  }

  private func vocabulary(_ model: JSONTree) throws(ModelError) -> [String?] {
    guard let members = model["vocab"]?.members else { throw failure("model.vocab", "missing") }
    var texts: [String?] = Array(repeating: nil, count: members.count)
    for member in members {
      guard let id = member.value.tokenID else { throw failure("model.vocab", "'\(member.key)' has no token id") }
      try setText(member.key, id, "model.vocab", &texts)
    }
    return texts
  }

  private func setText(_ text: String, _ id: Int32, _ field: String, _ texts: inout [String?]) throws(ModelError) {
    let index = Int(id)
    guard index < TokenizerDefinition.largestVocabulary else {
      throw failure(field, "'\(text)' has id \(id), beyond \(TokenizerDefinition.largestVocabulary)")
    }
    if index >= texts.count { texts.append(contentsOf: repeatElement(nil, count: index + 1 - texts.count)) }
    if let other = texts[index], !other.utf8.elementsEqual(text.utf8) {
      throw failure(field, "'\(other)' and '\(text)' have the same id \(id)")
    }
    texts[index] = text
  }

  private func addedTokens(_ texts: inout [String?]) throws(ModelError) -> [AddedToken] {
    let vocabulary = ByteStringTable(texts.map { $0.map { Array($0.utf8) } }) { _ in true }
    var tokens: [AddedToken] = []
    for entry in document["added_tokens"]?.array ?? [] {
      guard let content = entry["content"]?.string, let id = entry["id"]?.tokenID else {
        throw failure("added_tokens", "an entry without id or content")
      }
      if let other = vocabulary.id(of: Array(content.utf8)), other != id {
        throw failure("added_tokens", "'\(content)' has id \(id), in the vocabulary \(other)")
      }
      try setText(content, id, "added_tokens", &texts)
      let isSpecial = entry["special"]?.bool ?? false
      tokens.append(
        AddedToken(
          id: id, content: content, isSpecial: isSpecial, isNormalized: entry["normalized"]?.bool ?? !isSpecial,
          stripsLeft: entry["lstrip"]?.bool ?? false, stripsRight: entry["rstrip"]?.bool ?? false,
          isSingleWord: entry["single_word"]?.bool ?? false))
    }
    if let problem = AddedTokenMatcher.problem(tokens, group: "") { throw failure("added_tokens", problem) }
    return tokens
  }

  /// Reads merges, which are written "a b" or ["a", "b"].
  private func merges(
    _ model: JSONTree, _ texts: ByteStringTable, _ isSpecial: [Bool]
  ) throws(ModelError) -> MergeList {
    guard let entries = model["merges"]?.array else { throw failure("model.merges", "missing") }
    var merges = MergeList(texts: texts, capacity: entries.count) { isSpecial[Int($0)] }
    for (rank, entry) in entries.enumerated() {
      let missing: String?
      if let pair = entry.array, pair.count == 2, let left = pair[0].string, let right = pair[1].string {
        missing = merges.append(left: left[...], right: right[...], rank: rank)
      } else if let line = entry.string, let space = line.utf8.firstIndex(of: UInt8(ascii: " ")),
        line.utf8.lastIndex(of: UInt8(ascii: " ")) == space
      {
        missing = merges.append(left: line[..<space], right: line[line.utf8.index(after: space)...], rank: rank)
      } else {
        throw failure("model.merges[\(rank)]", "neither \"a b\" nor [\"a\", \"b\"]")
      }
      if let missing { throw failure("model.merges[\(rank)]", "'\(missing)' is not in the vocabulary") }
    }
    return merges
  }

  private func bytePairModel(
    _ model: JSONTree, texts: [String?], _ textTable: ByteStringTable, _ merges: MergeList, _ isSpecial: [Bool],
    isByteLevel: Bool
  ) throws(ModelError) -> BytePairModel {
    let takesWholePieces = model["ignore_merges"]?.bool ?? false
    let byteFallback = model["byte_fallback"]?.bool ?? false
    var unknown: Int32?
    if let text = model["unk_token"]?.string {
      unknown = textTable.id(of: Array(text.utf8))
      if unknown == nil { throw failure("model.unk_token", "'\(text)' is not in the vocabulary") }
    }
    if isByteLevel {
      if byteFallback { throw failure("model.byte_fallback", "not supported together with ByteLevel") }
      return BytePairModel(
        byteLevel: texts, textTable, merges, takesWholePieces: takesWholePieces, missingByte: unknown ?? -1
      ) { isSpecial[$0] }
    }
    let byteTokens = byteTokens(textTable)
    if byteFallback, let byte = byteTokens.firstIndex(of: -1) {
      let text = String(decoding: sentencePieceText(of: UInt8(byte)), as: UTF8.self)
      throw failure("model.byte_fallback", "'\(text)' is not in the vocabulary")
    }
    let pieces = ByteStringTable(texts.map { $0.map { Array($0.utf8) } }) { id in
      !isSpecial[id] && !(byteFallback && texts[id].flatMap(sentencePieceByte) != nil)
    }
    let fallback = BytePairModel.ScalarFallback(
      byteTokens: byteFallback ? byteTokens : [], unknown: unknown, fusesUnknown: model["fuse_unk"]?.bool ?? false)
    return BytePairModel(
      alphabet: .scalars(fallback), rule: .pairs(merges.table), pieces: pieces, takesWholePieces: takesWholePieces,
      cutsAtMetaspace: !takesWholePieces && !merges.crossesMetaspace && pieces.id(of: metaspaceBytes) != nil)
  }
}

/// Unigram models.
extension TokenizerJSONReader {
  /// The ids of <0x00> to <0xFF>; −1 where there is none.
  private func byteTokens(_ textTable: ByteStringTable) -> [Int32] {
    (UInt8.min...UInt8.max).map { textTable.id(of: sentencePieceText(of: $0)) ?? -1 }
  }

  private func unigramTexts(_ model: JSONTree) throws(ModelError) -> [String?] {
    guard let entries = model["vocab"]?.array else { throw failure("model.vocab", "missing") }
    guard entries.count <= TokenizerDefinition.largestVocabulary else {
      throw failure("model.vocab", "\(entries.count) tokens, more than \(TokenizerDefinition.largestVocabulary)")
    }
    var texts: [String?] = []
    for (id, entry) in entries.enumerated() {
      guard let text = entry.array?.first?.string else { throw failure("model.vocab[\(id)]", "no [token, score]") }
      texts.append(text)
    }
    return texts
  }

  private func unigramModel(
    _ model: JSONTree, texts: [String?], _ textTable: ByteStringTable, _ isSpecial: [Bool]
  ) throws(ModelError) -> UnigramModel {
    guard let unknown = model["unk_id"]?.tokenID, Int(unknown) < texts.count else {
      throw failure("model.unk_id", "missing, or not in the vocabulary")
    }
    var scores: [Double] = []
    for (id, entry) in (model["vocab"]?.array ?? []).enumerated() {
      guard let pair = entry.array, pair.count == 2, case .number(let score) = pair[1], score.isFinite else {
        throw failure("model.vocab[\(id)]", "no [token, score]")
      }
      scores.append(score)
    }
    var pieces: [(bytes: [UInt8], value: Int32)] = []
    var byteCount = 0
    for (id, text) in texts.enumerated() {
      // The model never chooses a special token for text.
      guard let bytes = text.map({ Array($0.utf8) }), !bytes.isEmpty, !isSpecial[id] else { continue }
      if let problem = UnigramModel.problem(bytes, total: &byteCount) {
        throw failure("model.vocab[\(id)]", problem)
      }
      pieces.append((bytes, Int32(id)))
    }
    return UnigramModel(
      pieces: pieces, scores: scores, lowestScore: scores.min() ?? 0, unknown: unknown,
      byteTokens: model["byte_fallback"]?.bool ?? false ? byteTokens(textTable) : [], precision: .double)
  }
}

/// The text of a SentencePiece byte token, "<0x0A>".
func sentencePieceText(of byte: UInt8) -> [UInt8] {
  Array("<0x\(hexadecimal([byte]).uppercased())>".utf8)
}

extension BytePairModel {
  /// Byte-level BPE, whose vocabulary is written in GPT-2's alphabet.
  /// - Parameter missingByte: the id that replaces bytes which the vocabulary lacks; −1 leaves them out
  init(
    byteLevel texts: [String?], _ textTable: ByteStringTable, _ merges: MergeList, takesWholePieces: Bool,
    missingByte: Int32, isSpecial: (Int) -> Bool
  ) {
    let bytes = ByteLevelAlphabet.scalars.map { textTable.id(of: Array(String($0).utf8)) ?? missingByte }
    let wholePieces = takesWholePieces ? texts.map { $0.flatMap(ByteLevelAlphabet.bytes(of:)) } : []
    self.init(
      alphabet: .bytes(bytes), rule: .pairs(merges.table),
      pieces: ByteStringTable(wholePieces) { !isSpecial($0) }, takesWholePieces: takesWholePieces,
      cutsAtMetaspace: false)
  }
}
