/// What a `Tokenizer` is made of, whichever file says so.
struct TokenizerDefinition {
  static let largestVocabulary = 1 << 22

  /// Tokens as the vocabulary writes them, by id; `nil` where no token has the id.
  var texts: [String?]
  /// Finds ids by those texts.
  var textTable: ByteStringTable
  var addedTokens: [AddedToken]
  var normalizer: Normalizer
  var preTokenizer: PreTokenizer
  var model: BytePairModel
  var decoding: TokenDecoding
  var spacesDroppedAtStart = 0
  /// What the model wants before a text: the beginning of sequence, or nothing.
  var prefixTokens: [Int32] = []
  var bosToken: Int32?
  /// The tokenizer's own end of sequence; a model may end its texts with others too.
  var eosToken: Int32?
  var eosTokens: [Int32] = []
  var chatTemplates: [String: String] = [:]

  /// How a token's text stands for bytes.
  enum TokenDecoding {
    /// In GPT-2's alphabet.
    case byteLevel
    /// As it is, but for these replacements and, if so, <0xNN> for single bytes.
    case text(replacements: [(old: [UInt8], new: [UInt8])], byteTokens: Bool)
  }

  /// The bytes of each id's token in a text.
  func decodedBytes() -> [[UInt8]?] {
    var isVerbatim = [Bool](repeating: false, count: texts.count)
    for token in addedTokens {
      // Byte-level vocabularies hold added tokens as they are; the others write spaces in them too.
      if case .byteLevel = decoding { isVerbatim[Int(token.id)] = true }
      if token.isSpecial { isVerbatim[Int(token.id)] = true }
    }
    return zip(texts, isVerbatim).map { text, isVerbatim in
      guard let text else { return nil }
      if isVerbatim { return Array(text.utf8) }
      switch decoding {
      case .byteLevel: return ByteLevelAlphabet.bytes(of: text) ?? Array(text.utf8)
      case .text(let replacements, let byteTokens):
        if byteTokens, let byte = sentencePieceByte(text) { return [byte] }
        let steps = replacements.map { NormalizerStep.replace($0.old, with: $0.new) }
        return steps.isEmpty ? Array(text.utf8) : Normalizer(steps: steps).normalize(Array(text.utf8))
      }
    }
  }
}

/// Merges of a vocabulary, resolved to ids.
struct MergeList {
  private(set) var table: MergeTable
  /// Whether a merge's result has U+2581 behind anything else than itself.
  private(set) var crossesMetaspace = false
  private let texts: ByteStringTable
  private let isSpecial: (Int32) -> Bool
  private var joined: [UInt8] = []

  init(texts: ByteStringTable, capacity: Int, isSpecial: @escaping (Int32) -> Bool) {
    table = MergeTable(capacity: capacity)
    self.texts = texts
    self.isSpecial = isSpecial
  }

  /// Adds the merge of that rank. Returns what is not in the vocabulary, `nil` if all is well.
  mutating func append(left: Substring, right: Substring, rank: Int) -> String? {
    joined.removeAll(keepingCapacity: true)
    joined.append(contentsOf: left.utf8)
    let boundary = joined.count
    joined.append(contentsOf: right.utf8)
    let ids = joined.withUnsafeBufferPointer { joined in
      (
        texts.id(of: UnsafeBufferPointer(rebasing: joined[..<boundary])),
        texts.id(of: UnsafeBufferPointer(rebasing: joined[boundary...])), texts.id(of: joined)
      )
    }
    guard let leftID = ids.0 else { return String(left) }
    guard let rightID = ids.1 else { return String(right) }
    guard let id = ids.2 else { return String(left) + String(right) }
    // Text can never become a special token piece by piece.
    if isSpecial(id) { return nil }
    if hasInnerMetaspace(joined) { crossesMetaspace = true }
    table.insert(left: leftID, right: rightID, rule: MergeTable.Rule(rank: UInt32(clamping: rank), id: id))
    return nil
  }
}

/// Whether U+2581 stands in UTF-8 text behind anything else than itself.
func hasInnerMetaspace(_ text: [UInt8]) -> Bool {
  var sawOther = false
  var index = 0
  while index < text.count {
    if text[index...].starts(with: metaspaceBytes) {
      if sawOther { return true }
      index += 3
    } else {
      sawOther = true
      index += 1
    }
  }
  return false
}
