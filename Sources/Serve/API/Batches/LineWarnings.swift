import Logging

/// The warnings of a batch's lines. Most lines have the same, so each is logged with the first line that has it, and at the
/// end with the number of lines.
struct LineWarnings {
  /// Maximum warnings that are told one by one.
  static let maximumCount = 100

  private let logger: Logger
  private let batch: String
  /// How many lines have each warning.
  private var counts: [String: Int] = [:]
  /// Lines with further warnings.
  private var untold = 0
  /// A line that is tried again counts once.
  private var lines: Set<Int> = []

  init(batch: String, _ logger: Logger) {
    self.batch = batch
    self.logger = logger
  }

  /// Notes the warnings of a line.
  mutating func note(_ warnings: [String], line: Int) {
    guard !warnings.isEmpty, lines.insert(line).inserted else { return }
    var hasUntold = false
    for warning in Set(warnings).sorted() {
      if let count = counts[warning] {
        counts[warning] = count + 1
      } else if counts.count < Self.maximumCount {
        counts[warning] = 1
        logger.warning("\(warning)", metadata: ["batch": .string(batch), "line": "\(line)"])
      } else {
        hasUntold = true
      }
    }
    if hasUntold { untold += 1 }
  }

  /// Tells how many lines had the warnings that several had.
  func tellCounts() {
    for (warning, count) in counts.sorted(by: { $0.key < $1.key }) where count > 1 {
      logger.warning("\(warning)", metadata: ["batch": .string(batch), "lines": "\(count)"])
    }
    if untold > 0 {
      logger.warning("further warnings are not told", metadata: ["batch": .string(batch), "lines": "\(untold)"])
    }
  }
}
