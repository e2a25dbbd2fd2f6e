/// Thrown by a turn before its kernel call if the run is to stop: it was paused or cancelled, another run is to
/// continue, or the process ends.
public struct TrainingInterruption: Error, Equatable, Sendable {
  /// An interruption without a reason, since the caller that stops a run knows why.
  public init() {}
}

/// Decides before each kernel call of a run when the call may begin, so that a run can share the machine.
///
/// A turn is one call of bounded size. It takes about a millisecond, whatever the base's size and the rows' lengths.
public protocol TrainingTurns {
  /// Waits until the run may continue, then calls `work` once on the caller's thread.
  /// - Parameter interruptible: false while parameters are being updated: an update that began is completed
  /// - Throws: `TrainingInterruption`, without calling `work`, if the run is to stop and `interruptible` is true
  func turn(interruptible: Bool, _ work: () -> Void) throws(TrainingInterruption)
}

extension TrainingTurns {
  /// A turn before which the run can be stopped.
  func turn(_ work: () -> Void) throws(TrainingInterruption) { try turn(interruptible: true, work) }

  /// Calls `body` with 0 ..< count in ranges of at most `size`, a turn for each.
  func turns(over count: Int, size: Int, _ body: (Range<Int>) -> Void) throws(TrainingInterruption) {
    for first in stride(from: 0, to: count, by: size) {
      try turn { body(first..<min(first + size, count)) }
    }
  }
}

/// Turns that never wait, for a process that only trains.
public struct UnpacedTurns: TrainingTurns {
  private let shouldStop: () -> Bool

  /// - Parameter shouldStop: called before each turn that is interruptible
  public init(shouldStop: @escaping () -> Bool = { false }) { self.shouldStop = shouldStop }

  /// Calls `work` at once.
  public func turn(interruptible: Bool, _ work: () -> Void) throws(TrainingInterruption) {
    if interruptible, shouldStop() { throw TrainingInterruption() }
    work()
  }
}
