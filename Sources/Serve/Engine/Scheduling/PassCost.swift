/// How the time of a decoding pass grows with its rows, learned from the passes.
///
/// The growth is a property of processor and model, and no straight line: a second row is almost free where memory
/// bandwidth is the limit. The machine's speed changes from one moment to the next, since others use it too, and the
/// sequences' lengths count. So the ratios to a pass of one row are learned slowly, and the speed quickly.
struct PassCost {
  /// Larger passes are taken to lie on the line that goes on from these.
  static let largestLearned = 64
  /// The time of a further row, as a share of a pass of one row, before any pass was seen.
  private static let initialGrowth = 0.25

  /// For each number of rows, the time of a pass as a multiple of that of a pass of one row; `nil` where none was seen.
  private var learned = [Double?](repeating: nil, count: largestLearned + 1)
  /// The same for each number of rows: what was learned, else a guess from its neighbours.
  private var ratios: [Double] = []
  /// The rows beyond the largest pass that was seen: what a further one adds.
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

  /// What was not seen for a while returns to what its neighbours let expect, so that a wrong ratio is tried again.
  private mutating func forget() {
    let known = (1...Self.largestLearned).filter { learned[$0] != nil }
    let before = learned
    for (position, rows) in known.enumerated().dropFirst() {
      let above = position + 1 < known.count ? known[position + 1] : nil
      let expected = Self.guess(rows, between: known[position - 1], and: above, in: before)
      learned[rows]! += 0.003 * (expected - learned[rows]!)
    }
  }

  /// Finds the ratios of all numbers of rows.
  private mutating func guessRatios() {
    var ratios = [0.0]
    var below = 1
    var above: Int? = 1
    for rows in 1...Self.largestLearned {
      if let known = learned[rows] {
        ratios.append(known)
        below = rows
        continue
      }
      if let next = above, next < rows {
        above = (rows...Self.largestLearned).first { learned[$0] != nil }
      }
      ratios.append(Self.guess(rows, between: below, and: above, in: learned))
    }
    self.ratios = ratios
    growth = Self.growth(beyond: below, in: learned)
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
