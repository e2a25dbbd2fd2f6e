/// How the time of a decoding pass grows with its rows, learned from the passes.
///
/// The growth is a property of processor and model, and no straight line: a second row is almost free where memory
/// bandwidth is the limit. The machine's speed changes from one moment to the next, since others use it too, and the
/// sequences' lengths count. So the ratios to a pass of one row are learned slowly, and the speed quickly.
struct PassCost {
  /// Larger passes are taken to lie on the line.
  static let largestLearned = 64

  /// For each number of rows, the time of a pass as a multiple of that of a pass of one row; `nil` where none was seen.
  private var ratios = [Double?](repeating: nil, count: largestLearned + 1)
  /// The slope of the line through one row that is nearest to all passes: the time of a further row.
  private var growth = 0.25
  /// Seconds of a pass of one row; `nil` before the first pass.
  private var seconds: Double?

  init() { ratios[1] = 1 }

  /// The time of a pass, as a multiple of that of a pass of one row.
  func ratio(rows: Int) -> Double {
    (rows <= Self.largestLearned ? ratios[rows] : nil) ?? line(rows)
  }

  private func line(_ rows: Int) -> Double { 1 + growth * Double(rows - 1) }

  /// Learns from a pass.
  /// - Parameter rows: at least 1
  mutating func record(rows: Int, seconds measured: Double) {
    guard (1...Self.largestLearned).contains(rows), measured > 0 else { return }
    // What was not seen for a while returns to the line, so that a wrong ratio is tried again.
    for other in 2...Self.largestLearned {
      if let known = ratios[other] { ratios[other] = known + 0.005 * (line(other) - known) }
    }
    if let seconds, rows > 1 {
      // A pass that was held up by others of the machine must not count for much.
      let ratio = min(max(measured / seconds, 1), 4 * self.ratio(rows: rows))
      growth += 0.1 * ((ratio - 1) / Double(rows - 1) - growth)
      ratios[rows] = ratios[rows].map { $0 + 0.1 * (ratio - $0) } ?? ratio
    }
    let speed = measured / ratio(rows: rows)
    seconds = seconds.map { $0 + 0.2 * (speed - $0) } ?? speed
  }
}
