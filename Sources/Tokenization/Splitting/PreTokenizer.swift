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
  /// Only the piece that the text begins with.
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

  /// Whether a segment at the beginning of the text is treated in another way than others.
  var distinguishesStart: Bool {
    steps.contains { if case .metaspace(prefix: .first, _) = $0 { true } else { false } }
  }

  /// - Parameter startsText: this segment is at the beginning of the text
  func split<Sink: PieceSink>(
    _ segment: UnsafeBufferPointer<UInt8>, startsText: Bool, using workspace: SplitRegex.Workspace,
    into sink: inout Sink
  ) {
    advance(segment, step: 0, startsText: startsText, workspace, &sink)
  }

  private func advance<Sink: PieceSink>(
    _ piece: UnsafeBufferPointer<UInt8>, step: Int, startsText: Bool, _ workspace: SplitRegex.Workspace,
    _ sink: inout Sink
  ) {
    if piece.isEmpty { return }
    guard step < steps.count else { return sink.take(piece) }
    switch steps[step] {
    case .split(let regex, .isolated, _):
      // Inverting swaps matches and the text between them, which is the same if each is a piece.
      var start = 0
      regex.forEachMatch(in: piece, using: workspace) { match in
        advance(piece[start..<match.lowerBound], step: step + 1, startsText: startsText && start == 0, workspace, &sink)
        advance(piece[match], step: step + 1, startsText: startsText && match.lowerBound == 0, workspace, &sink)
        start = match.upperBound
      }
      advance(piece[start...], step: step + 1, startsText: startsText && start == 0, workspace, &sink)
    case .split(let regex, let behavior, let inverted):
      for range in ranges(of: regex, behavior, inverted: inverted, in: piece, workspace) {
        let startsText = startsText && range.lowerBound == 0
        advance(piece[range], step: step + 1, startsText: startsText, workspace, &sink)
      }
    case .digitGroups(let regex, let isolating):
      var start = 0
      func cut(at end: Int) {
        advance(piece[start..<end], step: step + 1, startsText: startsText && start == 0, workspace, &sink)
        start = end
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
      if piece[0] == UInt8(ascii: " ") {
        return advance(piece, step: step + 1, startsText: startsText, workspace, &sink)
      }
      let prefixed = [UInt8(ascii: " ")] + piece
      prefixed.withUnsafeBufferPointer {
        advance($0, step: step + 1, startsText: startsText, workspace, &sink)
      }
    case .metaspace(let prefix, let splits):
      let replaced = metaspaced(piece, prefix: prefix == .always || (prefix == .first && startsText))
      replaced.withUnsafeBufferPointer { text in
        var start = 0
        if splits {
          var next = 1
          while next + 2 < text.count {
            if text[next] == 0xE2, text[next + 1] == 0x96, text[next + 2] == 0x81 {
              advance(text[start..<next], step: step + 1, startsText: startsText && start == 0, workspace, &sink)
              start = next
            }
            next += 1
          }
        }
        advance(text[start...], step: step + 1, startsText: startsText && start == 0, workspace, &sink)
      }
    }
  }

  private func advance<Sink: PieceSink>(
    _ piece: Slice<UnsafeBufferPointer<UInt8>>, step: Int, startsText: Bool, _ workspace: SplitRegex.Workspace,
    _ sink: inout Sink
  ) {
    advance(UnsafeBufferPointer(rebasing: piece), step: step, startsText: startsText, workspace, &sink)
  }

  private func metaspaced(_ piece: UnsafeBufferPointer<UInt8>, prefix: Bool) -> [UInt8] {
    var text: [UInt8] = []
    text.reserveCapacity(piece.count + piece.count / 2 + 3)
    if prefix && piece[0] != UInt8(ascii: " ") && !piece.starts(with: metaspaceBytes) {
      text.append(contentsOf: metaspaceBytes)
    }
    for byte in piece {
      if byte == UInt8(ascii: " ") { text.append(contentsOf: metaspaceBytes) } else { text.append(byte) }
    }
    return text
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
