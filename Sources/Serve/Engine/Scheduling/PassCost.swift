/// How the time of a decoding pass grows with its rows, learned from the passes.
///
/// The growth is a property of processor and model, and no straight line: a second row is almost free where memory
/// bandwidth is the limit. The machine's speed changes from one moment to the next, since others use it too, and the
/// sequences' lengths count. So the ratios to a pass of one row are learned slowly, and the speed quickly.
struct PassCost {
  /// Times are learned for passes of up to so many rows. For larger passes a straight line goes on from there.
  static let largestLearned = 64
  /// The time of a further row, as a share of a pass of one row, before any pass was seen.
  private static let initialGrowth = 0.25

  /// For each number of rows, the time of a pass as a multiple of that of a pass of one row; `nil` where none was seen.
  private var learned = [Double?](repeating: nil, count: largestLearned + 1)
  /// The same for each number of rows: what was learned, else a guess from its neighbours.
  private var ratios: [Double] = []
  /// What a further row adds to the ratio, beyond the largest number of rows that was seen.
  private var growth = initialGrowth
  /// Seconds of a pass of one row; `nil` before the first pass.
  private var seconds: Double?

  init() {
    learned[1] = 1
    guessRatios()
  }

  /// The time of a pass, as a multiple of that of a pass of one row.
  func ratio(rows: Int) -> Double {
    ratios[min(rows, Self.largestLearned)] + growth * Double(max(rows - Self.largestLearned, 0))
  }

  /// Learns from a pass.
  /// - Parameter rows: at least 1
  mutating func record(rows: Int, seconds measured: Double) {
    guard (1...Self.largestLearned).contains(rows), measured > 0 else { return }
    forget()
    if let seconds, rows > 1 {
      // A pass that was held up by others of the machine must not count for much.
      let ratio = min(max(measured / seconds, 1), 4 * self.ratio(rows: rows))
      learned[rows] = learned[rows].map { $0 + 0.1 * (ratio - $0) } ?? ratio
    }
    let speed = measured / (learned[rows] ?? ratio(rows: rows))
    seconds = seconds.map { $0 + 0.2 * (speed - $0) } ?? speed
    guessRatios()
  }

  /// The numbers of rows that were seen, each with the next larger one.
  private var known: [(rows: Int, above: Int?)] {
    let rows = (1...Self.largestLearned).filter { learned[$0] != nil }
    return Array(zip(rows, rows.dropFirst().map(Optional.some) + [nil]))
  }

  /// What was not seen for a while returns to what its neighbours let expect, so that a wrong ratio is tried again.
  private mutating func forget() {
    let (known, before) = (known, learned)
    for (below, current) in zip(known, known.dropFirst()) {
      let expected = Self.guess(current.rows, between: below.rows, and: current.above, in: before)
      learned[current.rows]! += 0.003 * (expected - learned[current.rows]!)
    }
  }

  /// Finds the ratios of all numbers of rows.
  private mutating func guessRatios() {
    ratios = [0]
    for (rows, above) in known {
      ratios.append(learned[rows]!)
      for unseen in rows + 1..<(above ?? Self.largestLearned + 1) {
        ratios.append(Self.guess(unseen, between: rows, and: above, in: learned))
      }
      if above == nil { growth = Self.growth(beyond: rows, in: learned) }
    }
  }

  /// The ratio of a number of rows between two others whose ratios were learned, or beyond the largest such.
  private static func guess(_ rows: Int, between below: Int, and above: Int?, in learned: [Double?]) -> Double {
    let low = learned[below]!
    guard let above else { return low + growth(beyond: below, in: learned) * Double(rows - below) }
    return low + (learned[above]! - low) * Double(rows - below) / Double(above - below)
  }

  /// What a row adds beyond the largest number that was seen. What the rows up to there added on average tells it, the more
  /// they are: where a second row is free, the third need not be.
  private static func growth(beyond rows: Int, in learned: [Double?]) -> Double {
    if rows == 1 { return initialGrowth }
    let seen = (learned[rows]! - 1) / Double(rows - 1)
    return seen + (initialGrowth - seen) / Double(rows)
  }

  /// How many of the rows that are proposed for drafts make the most tokens in the least time.
  /// - Parameters:
  ///   - probabilities: that each row makes a token, the greatest first
  ///   - rows: of the pass without them
  ///   - tokens: that these make
  func usefulRows(_ probabilities: [Double], beside rows: Int, tokens: Int) -> Int {
    var tokens = Double(tokens)
    var best = (count: 0, rate: tokens / ratio(rows: rows))
    for (index, probability) in probabilities.enumerated() {
      tokens += probability
      let rate = tokens / ratio(rows: rows + index + 1)
      if rate > best.rate { best = (index + 1, rate) }
    }
    return best.count
  }
}
