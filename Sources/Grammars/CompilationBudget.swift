/// What it may cost to make one grammar. All parts of a request's grammar share one budget.
///
/// Work is counted before it is done, in proportion to the time and the memory that it takes, so that the budget bounds both. A
/// unit is about one node of an expression: at most 100 bytes and less than a microsecond.
public final class CompilationBudget {
  /// The largest sum of units.
  public let limit: Int
  /// The units that were spent.
  public private(set) var used = 0

  /// Whether more was asked for than the budget has. Nothing can be made with it then.
  public var isExceeded: Bool { used > limit }

  /// - Parameter limit: the largest sum of units
  public init(limit: Int = 4_000_000) { self.limit = limit }

  /// The budget does not suffice.
  struct Exceeded: Error, CustomStringConvertible {
    let limit: Int

    var description: String { "the grammar takes more than \(limit) units of work to make" }
  }

  /// Counts work that is about to be done.
  func spend(_ units: Int) throws(Exceeded) {
    let (sum, overflow) = used.addingReportingOverflow(units)
    used = overflow ? .max : sum
    if isExceeded { throw Exceeded(limit: limit) }
  }

  /// Counts the work of reading or copying a text.
  func spend(on text: String) throws(Exceeded) { try spend(1 + text.utf8.count) }
}
