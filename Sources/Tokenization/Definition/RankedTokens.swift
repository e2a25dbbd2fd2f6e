import Formats
import Foundation

/// Tokens of bytes in the order in which pairs merge to them, as tiktoken has them: two neighbours merge if their bytes
/// together are a token, the token of the lowest rank first.
struct RankedTokens {
  /// The tokens' bytes, by rank.
  private(set) var tokens: [[UInt8]] = []
  /// The maximum of bytes that are looked at to cut all tokens in two.
  private static let maximumSteps = 1 << 31
  /// The maximum of ways to cut tokens into two tokens, each of which takes 50 bytes. Published vocabularies have a few for
  /// each token.
  private static let maximumMerges = 1 << 24

  /// - Parameter token: bytes in Base64
  /// - Returns: what is wrong with it; `nil` if nothing is
  mutating func append(base64 token: some StringProtocol) -> String? {
    guard tokens.count < TokenizerDefinition.largestVocabulary else {
      return "more than \(TokenizerDefinition.largestVocabulary) tokens"
    }
    guard let data = Data(base64Encoded: String(token)), !data.isEmpty else {
      return "'\(token)' is no Base64 of bytes"
    }
    tokens.append(Array(data))
    return nil
  }

  /// Builds the tokenizer.
  /// - Parameters:
  ///   - firstID: the id of rank 0
  ///   - special: tokens that are no ranks
  ///   - failure: makes an error of its reason
  func definition(
    firstID: Int, special: [AddedToken], pattern: SplitRegex, _ failure: (String) -> ModelError
  ) throws(ModelError) -> TokenizerDefinition {
    let count = max(firstID + tokens.count, special.reduce(0) { max($0, Int($1.id) + 1) })
    guard count <= TokenizerDefinition.largestVocabulary else { throw failure("\(count) tokens") }
    if let problem = AddedTokenMatcher.problem(special) { throw failure(problem) }
    var bytes = [[UInt8]?](repeating: nil, count: count)
    for (rank, token) in tokens.enumerated() { bytes[firstID + rank] = token }
    let table = ByteStringTable(bytes) { _ in true }
    var steps = 0
    for (rank, token) in tokens.enumerated() {
      if table.id(of: token) != Int32(firstID + rank) { throw failure("token of rank \(rank) is there twice") }
      steps += token.count * token.count
      if steps > Self.maximumSteps { throw failure("the tokens are too long") }
    }
    let byteIDs = (UInt8.min...UInt8.max).map { table.id(of: [$0]) ?? -1 }
    if let missing = byteIDs.firstIndex(of: -1) { throw failure("no token of the byte \(missing)") }

    var texts = bytes.map { $0.map(ByteLevelAlphabet.text(of:)) }
    for token in special {
      let id = Int(token.id)
      guard texts[id] == nil else { throw failure("'\(token.content)' has the id \(id) of another token") }
      texts[id] = token.content
    }
    guard let merges = merges(table, firstID: firstID) else {
      throw failure("there are more than \(Self.maximumMerges) ways to cut its tokens into two tokens")
    }
    let model = BytePairModel(
      alphabet: .bytes(byteIDs), rule: .pairs(merges), pieces: table, takesWholePieces: true,
      cutsAtMetaspace: false)
    return TokenizerDefinition(
      texts: texts, textTable: ByteStringTable(texts.map { $0.map { Array($0.utf8) } }) { _ in true },
      addedTokens: special, normalizer: Normalizer(steps: []),
      preTokenizer: PreTokenizer(steps: [.split(pattern, .isolated, inverted: false)]), model: .bytePairs(model),
      decoding: .byteLevel)
  }

  /// Every way to cut a token into two tokens is a merge of that token's rank. `nil` if there are too many.
  private func merges(_ table: ByteStringTable, firstID: Int) -> MergeTable? {
    var merges: [(left: Int32, right: Int32, rule: MergeTable.Rule)] = []
    for (rank, token) in tokens.enumerated() {
      token.withUnsafeBufferPointer { token in
        for cut in 1..<max(1, token.count) {
          if let left = table.id(of: UnsafeBufferPointer(rebasing: token[..<cut])),
            let right = table.id(of: UnsafeBufferPointer(rebasing: token[cut...]))
          {
            merges.append((left, right, MergeTable.Rule(rank: UInt32(rank), id: Int32(firstID + rank))))
          }
        }
      }
      if merges.count > Self.maximumMerges { return nil }
    }
    var result = MergeTable(capacity: merges.count)
    for merge in merges { result.insert(left: merge.left, right: merge.right, rule: merge.rule) }
    return result
  }
}
