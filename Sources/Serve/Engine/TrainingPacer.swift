/// Decides when training may continue beside requests: a value without clock or I/O, which is told how long passes and
/// training calls took.
///
/// Training continues freely while no request runs. While requests run it continues only if it would otherwise get less
/// than its share, counted over the last seconds, so that it does not slow down requests that leave enough time free.
struct TrainingPacer: Equatable {
  /// Training's share of the time while requests leave none over, 0...0.9.
  let share: Double
  /// Requests run, so passes follow each other.
  var requestsRun = false
  /// Seconds that training is short of its share, or less than 0 if it had more.
  private var debt = 0.0

  /// Seconds after which past training no longer counts.
  private static let window = 10.0
  /// A lower bound of the largest debt, in seconds, for short passes.
  private static let minimumDebtLimit = 0.005

  init(share: Double) { self.share = share }

  /// Whether the next training call may begin.
  var mayTrain: Bool { !requestsRun || debt > 0 }

  /// About how long training has to continue until it has its share; zero if it has.
  var owed: Duration { .seconds(max(debt, 0) / (1 - share)) }

  /// A pass was made while training waited.
  /// - Parameter time: of the pass, with all that goes with one
  mutating func served(for time: Duration) {
    let due = share * (time / .seconds(1))
    // Debts are not saved up: they would be a pause later.
    debt = min(debt + due, max(2 * due, Self.minimumDebtLimit))
  }

  /// A training call was made.
  mutating func trained(for time: Duration) {
    debt = max(debt - (1 - share) * (time / .seconds(1)), -share * Self.window)
  }
}
