/// Ends a run between two pieces of its work: it was paused or cancelled, gives way to another, or the process stops.
public struct TrainingInterruption: Error, Equatable, Sendable {
  public init() {}
}

/// Whoever shares a machine with a run decides here, before each piece of its work, when that may begin.
///
/// A piece of work takes a millisecond or two, whatever the base's size and the rows' lengths.
public protocol TrainingTurns {
  /// Waits for the run's turn, then calls `work` once on the caller's thread.
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

/// Turns that never wait: nothing else uses the machine.
public struct UnpacedTurns: TrainingTurns {
  private let shouldStop: () -> Bool

  /// - Parameter shouldStop: asked before each piece of work that can be left out
  public init(shouldStop: @escaping () -> Bool = { false }) { self.shouldStop = shouldStop }

  public func turn(interruptible: Bool, _ work: () -> Void) throws(TrainingInterruption) {
    if interruptible, shouldStop() { throw TrainingInterruption() }
    work()
  }
}
