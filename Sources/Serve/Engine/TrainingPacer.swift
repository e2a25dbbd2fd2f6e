/// Decides when training may continue while requests run. A value without clock or I/O: its caller reports how long
/// passes and training calls took.
///
/// While no request runs, training always continues. While requests run, it continues only if it would otherwise get
/// less than its share of the last seconds. So it does not slow down requests that leave enough time free.
struct TrainingPacer: Equatable {
  /// Training's share of the time, 0...0.9, if requests leave no time free.
  let share: Double
  /// Whether requests run, so that one pass follows another.
  var requestsRun = false
  /// The seconds that training has had less than its share; negative if it has had more.
  private var debt = 0.0

  /// Limits the credit: training that lies further back than this many seconds no longer counts.
  private static let window = 10.0
  /// The largest debt in seconds is at least this, so that training gets a call even after a short pass.
  private static let minimumDebtLimit = 0.005

  init(share: Double) { self.share = share }

  /// Whether the next training call may begin.
  var mayTrain: Bool { !requestsRun || debt > 0 }

  /// About how long training must continue to have its share; zero if it has it.
  var owed: Duration { .seconds(max(debt, 0) / (1 - share)) }

  /// Counts a pass that was made while training waited.
  /// - Parameter time: of the pass, including the engine's work before and after it
  mutating func served(for time: Duration) {
    let due = share * (time / .seconds(1))
    // A debt is limited, because a large one would delay later passes.
    debt = min(debt + due, max(2 * due, Self.minimumDebtLimit))
  }

  /// Counts a training call.
  mutating func trained(for time: Duration) {
    debt = max(debt - (1 - share) * (time / .seconds(1)), -share * Self.window)
  }
}
