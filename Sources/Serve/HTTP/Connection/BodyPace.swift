/// The rate at which a request's body is received, measured over the time in which the server waits for it.
///
/// Each period of `HTTPConfiguration.bodyGracePeriod` is measured alone, so that a fast beginning does not allow a slow
/// rest.
struct BodyPace {
  private var waitBegan: ContinuousClock.Instant?
  /// The time waited and the bytes received in the present period.
  private var waited = Duration.zero
  private var received = 0

  /// Notes whether the server waits for more of the body from now on.
  mutating func isWaiting(_ isWaiting: Bool) {
    let now = ContinuousClock.now
    if let waitBegan { waited += waitBegan.duration(to: now) }
    waitBegan = isWaiting ? now : nil
  }

  /// Counts received bytes.
  /// - Returns: whether a period has ended in which the rate was below `HTTPConfiguration.minBodyRate`
  mutating func isTooSlow(arrived count: Int, _ configuration: HTTPConfiguration) -> Bool {
    isWaiting(waitBegan != nil)
    received += count
    guard waited >= configuration.bodyGracePeriod else { return false }
    let due = waited / .seconds(1) * Double(configuration.minBodyRate)
    let isTooSlow = Double(received) < due
    waited = .zero
    received = 0
    return isTooSlow
  }
}
