/// A step that splits text into pieces, which Hugging Face's `tokenizers` calls pre-tokenization. No token crosses the
/// boundary of a piece.
enum PreTokenizerStep: Sendable {
  case split(SplitRegex, SplitBehavior, inverted: Bool)
  /// Splits each number that the pattern finds into groups of three digits, from the right; with `isolating`, before and
  /// after the number too.
  case digitGroups(SplitRegex, isolating: Bool)
  /// Adds a space before each piece that does not begin with one (ByteLevel's `add_prefix_space`).
  case spacePrefix
  /// Replaces spaces by U+2581, adds one at the beginning, and may split before each.
  case metaspace(prefix: MetaspacePrefix, splits: Bool)
}

/// Which pieces the matches of a split pattern and the text between them make.
enum SplitBehavior: String, Sendable {
  case isolated = "Isolated"
  case removed = "Removed"
  case mergedWithPrevious = "MergedWithPrevious"
  case mergedWithNext = "MergedWithNext"
  case contiguous = "Contiguous"
}

/// Which pieces Metaspace adds a U+2581 to.
enum MetaspacePrefix: String, Sendable {
  case always
  /// Only pieces that begin with what stands for the text's first character.
  case first
  case never
}

/// U+2581, SentencePiece's space, in UTF-8.
let metaspaceBytes: [UInt8] = [0xE2, 0x96, 0x81]

/// Receives the pieces of a `PreTokenizer`, in order.
protocol PieceSink {
  mutating func take(_ piece: UnsafeBufferPointer<UInt8>)
}

/// Applies steps in order; each splits the pieces of the one before. A piece goes through all steps before the next piece
/// is made, so there is never a list of all pieces.
struct PreTokenizer: Sendable {
  let steps: [PreTokenizerStep]

  /// Whether what is at the beginning of the text is treated in another way than the rest.
  var distinguishesStart: Bool {
    steps.contains { if case .metaspace(prefix: .first, _) = $0 { true } else { false } }
  }

  /// - Parameter start: how many of the segment's first bytes come from the first character of the whole text; 0 for a segment
  ///   that is not at the text's beginning. It is only read if `distinguishesStart` is true
  func split<Sink: PieceSink>(
    _ segment: UnsafeBufferPointer<UInt8>, start: Int, using workspace: SplitRegex.Workspace, into sink: inout Sink
  ) {
    advance(segment, step: 0, start, workspace, &sink)
  }

  private func advance<Sink: PieceSink>(
    _ piece: UnsafeBufferPointer<UInt8>, step: Int, _ start: Int, _ workspace: SplitRegex.Workspace, _ sink: inout Sink
  ) {
    if piece.isEmpty { return }
    guard step < steps.count else { return sink.take(piece) }
    func advance(_ range: Range<Int>, of text: UnsafeBufferPointer<UInt8>, _ start: Int) {
      let part = UnsafeBufferPointer(rebasing: text[range])
      self.advance(part, step: step + 1, start - range.lowerBound, workspace, &sink)
    }
    switch steps[step] {
    case .split(let regex, .isolated, _):
      // Inverting swaps matches and the text between them, which is the same if each is a piece.
      var end = 0
      regex.forEachMatch(in: piece, using: workspace) { match in
        advance(end..<match.lowerBound, of: piece, start)
        advance(match, of: piece, start)
        end = match.upperBound
      }
      advance(end..<piece.count, of: piece, start)
    case .split(let regex, let behavior, let inverted):
      for range in ranges(of: regex, behavior, inverted: inverted, in: piece, workspace) {
        advance(range, of: piece, start)
      }
    case .digitGroups(let regex, let isolating):
      var last = 0
      func cut(at end: Int) {
        advance(last..<end, of: piece, start)
        last = end
      }
      regex.forEachMatch(in: piece, using: workspace) { match in
        if isolating { cut(at: match.lowerBound) }
        let digits = match.lazy.filter { piece[$0] & 0xC0 != 0x80 }
        let first = digits.count % 3
        for (index, position) in digits.enumerated() where index % 3 == first { cut(at: position) }
        if isolating { cut(at: match.upperBound) }
      }
      cut(at: piece.count)
    case .spacePrefix:
      if piece[0] == UInt8(ascii: " ") { return advance(0..<piece.count, of: piece, start) }
      let prefixed = [UInt8(ascii: " ")] + piece
      prefixed.withUnsafeBufferPointer { advance(0..<$0.count, of: $0, start > 0 ? start + 1 : 0) }
    case .metaspace(let prefix, let splits):
      let isPrefixed = prefix == .always || (prefix == .first && start > 0)
      let replaced = metaspaced(piece, prefix: isPrefixed, start)
      replaced.text.withUnsafeBufferPointer { text in
        var last = 0
        if splits {
          var next = 1
          while next + 2 < text.count {
            if text[next] == 0xE2, text[next + 1] == 0x96, text[next + 2] == 0x81 {
              advance(last..<next, of: text, replaced.start)
              last = next
            }
            next += 1
          }
        }
        advance(last..<text.count, of: text, replaced.start)
      }
    }
  }

  private func metaspaced(
    _ piece: UnsafeBufferPointer<UInt8>, prefix: Bool, _ start: Int
  ) -> (text: [UInt8], start: Int) {
    var text: [UInt8] = []
    text.reserveCapacity(piece.count + piece.count / 2 + 3)
    if prefix && piece[0] != UInt8(ascii: " ") && !piece.starts(with: metaspaceBytes) {
      text.append(contentsOf: metaspaceBytes)
    }
    var moved = 0
    for (index, byte) in piece.enumerated() {
      if byte == UInt8(ascii: " ") { text.append(contentsOf: metaspaceBytes) } else { text.append(byte) }
      if index < start { moved = text.count }
    }
    return (text, moved)
  }

  private func ranges(
    of regex: SplitRegex, _ behavior: SplitBehavior, inverted: Bool, in text: UnsafeBufferPointer<UInt8>,
    _ workspace: SplitRegex.Workspace
  ) -> [Range<Int>] {
    var parts: [(range: Range<Int>, isMatch: Bool)] = []
    var start = 0
    regex.forEachMatch(in: text, using: workspace) { match in
      if start < match.lowerBound { parts.append((start..<match.lowerBound, inverted)) }
      parts.append((match, !inverted))
      start = match.upperBound
    }
    if start < text.count { parts.append((start..<text.count, inverted)) }
    switch behavior {
    case .isolated: return parts.map(\.range)
    case .removed: return parts.filter { !$0.isMatch }.map(\.range)
    case .contiguous: return joined(parts) { $0.isMatch == $1.isMatch }
    case .mergedWithPrevious: return joined(parts) { !$0.isMatch && $1.isMatch }
    case .mergedWithNext: return joined(parts) { $0.isMatch && !$1.isMatch }
    }
  }

  /// Joins neighbours for which `joins(former, latter)` is true.
  private func joined(
    _ parts: [(range: Range<Int>, isMatch: Bool)],
    where joins: ((range: Range<Int>, isMatch: Bool), (range: Range<Int>, isMatch: Bool)) -> Bool
  ) -> [Range<Int>] {
    var result: [Range<Int>] = []
    for (index, part) in parts.enumerated() {
      if index > 0, joins(parts[index - 1], part), let last = result.popLast() {
        result.append(last.lowerBound..<part.range.upperBound)
      } else {
        result.append(part.range)
      }
    }
    return result
  }
}
