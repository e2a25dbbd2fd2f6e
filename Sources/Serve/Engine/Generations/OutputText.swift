import Tokenization
import Model

/// Turns a generation's tokens into text that can be shown: whole characters, cut before the first stop string, or behind it.
///
/// Text that could be the beginning of a stop string is held back until later tokens show whether it is one.
struct OutputText {
  private var decoder: StreamDecoder
  private let stops: [[UInt8]]
  private let includesStop: Bool
  /// Stop strings that end within the text of so many tokens do not count.
  private let minimumTokens: Int
  /// Tokens that were added.
  private var count = 0
  /// How many bytes at the beginning of `held` are text in which no stop string may end.
  private var unstoppable = 0
  /// Decoded text that is held back, because it could be the beginning of a stop string.
  private var held: [UInt8] = []
  /// Tokens whose text was not shown completely. `begin` and `end` are the range of a token's text in `held`. The first
  /// token's text may begin before `held`, where it was shown already.
  private var heldTokens: [(record: TokenRecord, begin: Int, end: Int)] = []
  /// Whether a stop string was found.
  private(set) var isStopped = false

  /// - Parameters:
  ///   - includesStop: whether the stop string is shown
  ///   - minimumTokens: stop strings that end within the text of so many tokens do not count
  init(decoder: StreamDecoder, stops: [String], includesStop: Bool = false, minimumTokens: Int = 0) {
    self.decoder = decoder
    self.includesStop = includesStop
    self.minimumTokens = minimumTokens
    self.stops = stops.map { Array($0.utf8) }
  }

  /// Adds a token.
  /// - Returns: the text that can be shown now, and the tokens whose text ends in it
  mutating func push(_ record: TokenRecord) -> (text: String, tokens: [TokenRecord]) {
    let text = decoder.push(record.token)
    // The usual case, in which nothing is held back.
    if stops.isEmpty, heldTokens.isEmpty, held.isEmpty, !decoder.hasPending { return (text, [record]) }
    let begin = heldTokens.last?.end ?? held.count
    held += Array(text.utf8)
    // A token that ends inside a character is shown with the token that completes it.
    heldTokens.append((record, begin, held.count + (decoder.hasPending ? 1 : 0)))
    count += 1
    if count <= minimumTokens { unstoppable = held.count }
    return release(final: false)
  }

  /// Ends the text.
  mutating func finish() -> (text: String, tokens: [TokenRecord]) {
    if isStopped { return ("", []) }
    held += Array(decoder.finish().utf8)
    return release(final: true)
  }

  private mutating func release(final: Bool) -> (text: String, tokens: [TokenRecord]) {
    var shown = held.count
    if let stop = firstStop() {
      isStopped = true
      shown = includesStop ? stop.upperBound : stop.lowerBound
    } else if !final {
      shown -= lengthOfPossibleStop()
    }
    let text = String(decoding: held[..<shown], as: UTF8.self)
    var tokens: [TokenRecord] = []
    if isStopped {
      // The token whose text is cut by the stop string is shown; later tokens are not.
      for (record, begin, end) in heldTokens where begin < shown || end <= shown && end == begin {
        tokens.append(record)
      }
      heldTokens = []
    } else {
      let count = final ? heldTokens.count : heldTokens.prefix { $0.end <= shown }.count
      tokens = heldTokens.prefix(count).map(\.record)
      heldTokens.removeFirst(count)
      for i in heldTokens.indices {
        heldTokens[i].begin -= shown
        heldTokens[i].end -= shown
      }
    }
    held.removeFirst(shown)
    unstoppable = max(unstoppable - shown, 0)
    return (text, tokens)
  }

  /// Where the first stop string in `held` is; of several that begin there, the shortest.
  private func firstStop() -> Range<Int>? {
    stops.compactMap { stop in
      held.indices.first { $0 + stop.count > unstoppable && held[$0...].starts(with: stop) }.map {
        $0..<$0 + stop.count
      }
    }.min { ($0.lowerBound, $0.upperBound) < ($1.lowerBound, $1.upperBound) }
  }

  /// How many bytes at the end of `held` could be the beginning of a stop string.
  private func lengthOfPossibleStop() -> Int {
    stops.reduce(0) { max($0, held.lengthOfBeginning(of: $1)) }
  }
}
