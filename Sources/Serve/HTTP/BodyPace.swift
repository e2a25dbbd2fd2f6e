/// How fast a request's body comes, counted only over the time in which the server waits for it.
struct BodyPace {
  private var waitBegan: ContinuousClock.Instant?
  private var waited = Duration.zero
  private var received = 0

  /// The server waits for more of the body from now on, or does not.
  mutating func isWaiting(_ isWaiting: Bool) {
    let now = ContinuousClock.now
    if let waitBegan { waited += waitBegan.duration(to: now) }
    waitBegan = isWaiting ? now : nil
  }

  /// Bytes have arrived.
  /// - Returns: whether the body has come more slowly than `HTTPConfiguration.minBodyRate`, after the grace period.
  mutating func isTooSlow(arrived count: Int, _ configuration: HTTPConfiguration) -> Bool {
    isWaiting(waitBegan != nil)
    received += count
    guard waited > configuration.bodyGracePeriod else { return false }
    let due = (waited - configuration.bodyGracePeriod) / .seconds(1) * Double(configuration.minBodyRate)
    return Double(received) < due
  }
}
