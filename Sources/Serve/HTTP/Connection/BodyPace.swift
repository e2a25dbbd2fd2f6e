/// How fast a request's body comes, counted only over the time in which the server waits for it.
///
/// The rate is held to in each period of `HTTPConfiguration.bodyGracePeriod`, so that a fast start earns no leave to
/// trickle afterwards.
struct BodyPace {
  private var waitBegan: ContinuousClock.Instant?
  /// Of the period under way: the time waited, and the bytes that came.
  private var waited = Duration.zero
  private var received = 0

  /// The server waits for more of the body from now on, or does not.
  mutating func isWaiting(_ isWaiting: Bool) {
    let now = ContinuousClock.now
    if let waitBegan { waited += waitBegan.duration(to: now) }
    waitBegan = isWaiting ? now : nil
  }

  /// Bytes have arrived.
  /// - Returns: whether the body came more slowly than `HTTPConfiguration.minBodyRate` in the period that has just ended
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
