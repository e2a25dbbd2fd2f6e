/// How training and requests share the time: a value without clock or I/O. Whoever measures tells it how long each took.
///
/// Training has the time when no request runs. While requests run it comes only where it would otherwise get less than
/// its share, counted over the last seconds, so that requests which leave time over are not slowed down.
struct TrainingPacer: Equatable {
  /// Training's share of the time while requests leave none over, 0...0.9.
  let share: Double
  /// Requests run: passes follow each other.
  var requestsRun = false
  /// Seconds that training is short of its share, or less than 0 if it had more.
  private var debt = 0.0

  /// Training that was had this many seconds ago counts no more.
  private static let window = 10.0
  /// Seconds of training that can be owed at least, however short passes are.
  private static let smallestDebtLimit = 0.005

  init(share: Double) { self.share = share }

  /// Whether the next piece of training may begin.
  var mayTrain: Bool { !requestsRun || debt > 0 }

  /// About how long training has to be let go on until it has its share; zero where it has.
  var owed: Duration { .seconds(max(debt, 0) / (1 - share)) }

  /// A pass was made while training waited.
  /// - Parameter time: of the pass, with all that goes with one
  mutating func served(for time: Duration) {
    let due = share * (time / .seconds(1))
    // Debts are not saved up: they would be a pause later.
    debt = min(debt + due, max(2 * due, Self.smallestDebtLimit))
  }

  /// A piece of training was done.
  mutating func trained(for time: Duration) {
    debt = max(debt - (1 - share) * (time / .seconds(1)), -share * Self.window)
  }
}
