/// A unigram language model (Kudo, 2018): of all ways to split a text into tokens, the one with the highest sum of scores.
struct UnigramModel: Sendable {
  /// How sums of scores are rounded. Two splits with nearly equal sums can change places by it.
  enum Precision: Sendable {
    /// SentencePiece keeps sums as 32-bit floats.
    case single
    /// As `tokenizers` and llama.cpp keep them.
    case double
  }

  /// The maximum length of a token, in bytes. Published ones have up to 16 characters.
  static let longestToken = 1024
  /// The maximum of all tokens together, in bytes: each byte can take a node of the trie. Published ones have a few million.
  private static let maximumBytes = 32 << 20
  /// Longer pieces are split here, which bounds the memory: about 16 bytes for each byte of text.
  private static let longestPiece = 16 << 20
  /// How much less than the lowest score a character scores that is no token.
  private static let unknownPenalty: Float = 10
  /// Where 32-bit sums begin again at 0, which SentencePiece does so that they stay precise in long texts.
  private static let largestSum = 100_000.0

  private let trie: ByteTrie
  private let scores: [Double]
  private let unknown: Int32
  /// The ids of <0x00> to <0xFF>, which replace the bytes of characters that are no tokens; empty without byte fallback.
  private let byteTokens: [Int32]
  private let unknownScore: Double
  private let precision: Precision

  /// - Parameters:
  ///   - pieces: the tokens that a text can be split into; none is empty or longer than `longestToken`
  ///   - scores: finite, by id
  ///   - lowestScore: of the tokens that count for it
  init(
    pieces: [(bytes: [UInt8], value: Int32)], scores: [Double], lowestScore: Double, unknown: Int32,
    byteTokens: [Int32],
    precision: Precision
  ) {
    trie = ByteTrie(pieces)
    self.scores = scores
    self.unknown = unknown
    self.byteTokens = byteTokens
    self.precision = precision
    unknownScore =
      precision == .single
      ? Double(Float(lowestScore) - Self.unknownPenalty) : lowestScore - Double(Self.unknownPenalty)
  }

  /// Why a token cannot be one of a unigram model; `nil` if it can.
  /// - Parameters:
  ///   - bytes: the token's
  ///   - total: bytes of the tokens before it, to which its own are added
  static func problem(_ bytes: [UInt8], total: inout Int) -> String? {
    total += bytes.count
    if bytes.count > longestToken { return "is longer than \(longestToken) bytes" }
    return total > maximumBytes ? "makes the tokens longer than \(maximumBytes) bytes together" : nil
  }

  func encode(_ piece: UnsafeBufferPointer<UInt8>, _ scratch: EncodingScratch, into ids: inout [Int32]) {
    let entry = scratch.cache.entry(for: piece)
    if let entry, scratch.cache.append(entry, to: &ids) { return }
    let first = ids.count
    var start = 0
    while start < piece.count {
      var end = min(piece.count, start + Self.longestPiece)
      while end < piece.count && piece[end] & 0xC0 == 0x80 { end -= 1 }
      findBestPath(UnsafeBufferPointer(rebasing: piece[start..<end]), scratch)
      emit(UnsafeBufferPointer(rebasing: piece[start..<end]), scratch, into: &ids)
      start = end
    }
    if let entry { scratch.cache.store(piece, ids[first...], in: entry) }
  }

  /// Finds for each position of the text the best split up to it (Viterbi): `pathScores`, and the last token's beginning and
  /// id in `pathStarts` and `pathIDs`.
  private func findBestPath(_ text: UnsafeBufferPointer<UInt8>, _ scratch: EncodingScratch) {
    scratch.resetPaths(count: text.count + 1)
    var start = 0
    var furthest = 0
    while start < text.count {
      if precision == .single, abs(scratch.pathScores[start]) > Self.largestSum {
        scratch.beginSums(at: start, through: furthest)
      }
      var next = start + 1
      while next < text.count && text[next] & 0xC0 == 0x80 { next += 1 }
      let scoreHere = scratch.pathScores[start]
      var isToken = false
      trie.forEachPrefix(of: text, from: start) { end, id in
        scratch.offer(rounding: precision, scores[Int(id)] + scoreHere, id, start: start, end: end)
        if end == next { isToken = true }
        furthest = max(furthest, end)
      }
      if !isToken {
        scratch.offer(rounding: precision, unknownScore + scoreHere, unknown, start: start, end: next)
        furthest = max(furthest, next)
      }
      start = next
    }
  }

  /// Appends the ids of the best split. A run of characters that are no tokens becomes their bytes, or one unknown token.
  private func emit(_ text: UnsafeBufferPointer<UInt8>, _ scratch: EncodingScratch, into ids: inout [Int32]) {
    let first = ids.count
    var end = text.count
    var unknownEnd: Int?
    func emitUnknown(from start: Int) {
      guard let end = unknownEnd else { return }
      let bytes = byteTokens.isEmpty ? [] : text[start..<end].reversed().map { byteTokens[Int($0)] }
      ids.append(contentsOf: bytes.isEmpty || bytes.contains(-1) ? [unknown] : bytes)
      unknownEnd = nil
    }
    while end > 0 {
      let id = scratch.pathIDs[end]
      if id == unknown {
        unknownEnd = unknownEnd ?? end
      } else {
        emitUnknown(from: end)
        ids.append(id)
      }
      end = Int(scratch.pathStarts[end])
    }
    emitUnknown(from: 0)
    ids[first...].reverse()
  }
}

extension EncodingScratch {
  func resetPaths(count: Int) {
    pathScores.removeAll(keepingCapacity: true)
    pathStarts.removeAll(keepingCapacity: true)
    pathIDs.removeAll(keepingCapacity: true)
    pathScores.append(contentsOf: repeatElement(0, count: count))
    pathStarts.append(contentsOf: repeatElement(-1, count: count))
    pathIDs.append(contentsOf: repeatElement(-1, count: count))
  }

  /// Makes the sum up to a position 0, and moves those up to positions behind it along.
  func beginSums(at start: Int, through end: Int) {
    let sum = pathScores[start]
    for index in start...max(start, end) where index == start || pathStarts[index] >= 0 {
      pathScores[index] = Double(Float(pathScores[index] - sum))
    }
  }

  /// Takes a token as the last one of the split up to `end`, if that has none yet or a lower score.
  @inline(__always)
  func offer(rounding precision: UnigramModel.Precision, _ score: Double, _ id: Int32, start: Int, end: Int) {
    let score = precision == .single ? Double(Float(score)) : score
    guard pathStarts[end] < 0 || score > pathScores[end] else { return }
    pathScores[end] = score
    pathStarts[end] = Int32(truncatingIfNeeded: start)
    pathIDs[end] = id
  }
}
