import Formats

/// What a `Tokenizer` is built from, whichever file it was read from.
struct TokenizerDefinition {
  static let largestVocabulary = 1 << 22

  /// The tokens' texts in the vocabulary, by id; `nil` if no token has the id.
  var texts: [String?]
  /// The ids by those texts.
  var textTable: ByteStringTable
  var addedTokens: [AddedToken]
  var normalizer: Normalizer
  var preTokenizer: PreTokenizer
  var model: TokenModel
  var decoding: TokenDecoding
  var spacesDroppedAtStart = 0
  /// Added tokens that are looked for in the normalized text are looked for as they are written; else as the normalizer
  /// writes them.
  var findsAddedTokensVerbatim = false
  /// The tokens that the model expects before a text, such as the beginning of sequence.
  var prefixTokens: [Int32] = []
  var bosToken: Int32?
  /// The tokenizer's own end-of-sequence token. A model may end its texts with other tokens too.
  var eosToken: Int32?
  var eosTokens: [Int32] = []
  var chatTemplates: [String: String] = [:]

  /// How a token's text in the vocabulary stands for bytes.
  enum TokenDecoding {
    /// In GPT-2's alphabet (`ByteLevelAlphabet`).
    case byteLevel
    /// As UTF-8, after these replacements; with `byteTokens`, <0xNN> stands for a byte.
    case text(replacements: [(old: [UInt8], new: [UInt8])], byteTokens: Bool)
  }

  /// Adds tokens that the vocabulary lacks, and takes the options of those that it has.
  /// - Parameter failure: makes an error of its reason
  mutating func add(_ tokens: [AddedToken], _ failure: (String) -> ModelError) throws(ModelError) {
    var places: [Int32: Int] = [:]
    for (place, token) in addedTokens.enumerated() { places[token.id] = place }
    for token in tokens {
      let id = Int(token.id)
      guard id < Self.largestVocabulary else { throw failure("the id \(id) is beyond \(Self.largestVocabulary)") }
      if let other = textTable.id(of: Array(token.content.utf8)), other != token.id {
        throw failure("'\(token.content)' has the id \(id), in the vocabulary \(other)")
      }
      if id >= texts.count { texts.append(contentsOf: repeatElement(nil, count: id + 1 - texts.count)) }
      if let text = texts[id], !text.utf8.elementsEqual(token.content.utf8) {
        throw failure("'\(token.content)' has the id \(id) of '\(text)'")
      }
      texts[id] = token.content
      if let place = places[token.id] {
        addedTokens[place] = token
      } else {
        places[token.id] = addedTokens.count
        addedTokens.append(token)
      }
    }
    if let problem = AddedTokenMatcher.problem(addedTokens) { throw failure(problem) }
    if !tokens.isEmpty { textTable = ByteStringTable(texts.map { $0.map { Array($0.utf8) } }) { _ in true } }
  }

  /// The bytes that each token stands for in a text, by id.
  func decodedBytes() -> [[UInt8]?] {
    var isVerbatim = [Bool](repeating: false, count: texts.count)
    for token in addedTokens {
      // In byte-level vocabularies the texts of added tokens are plain UTF-8; in others they are replaced like all texts.
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

/// The merges of a vocabulary, with ids instead of texts.
struct MergeList {
  private(set) var table: MergeTable
  /// Whether the result of a merge has U+2581 after something else.
  private(set) var crossesMetaspace = false
  private let texts: ByteStringTable
  private let isSpecial: (Int32) -> Bool
  private var joined: [UInt8] = []

  init(texts: ByteStringTable, capacity: Int, isSpecial: @escaping (Int32) -> Bool) {
    table = MergeTable(capacity: capacity)
    self.texts = texts
    self.isSpecial = isSpecial
  }

  /// Adds the merge of a rank.
  /// - Returns: the text that is not in the vocabulary; `nil` if both and their result are
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
    // Merging never makes a special token.
    if isSpecial(id) { return nil }
    if hasInnerMetaspace(joined) { crossesMetaspace = true }
    table.insert(left: leftID, right: rightID, rule: MergeTable.Rule(rank: UInt32(clamping: rank), id: id))
    return nil
  }
}

/// Whether UTF-8 text has U+2581 after something else.
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
