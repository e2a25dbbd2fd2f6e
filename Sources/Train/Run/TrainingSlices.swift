/// Thrown by a slice before its kernel call if the run is to stop: it was paused or cancelled, another run is to
/// continue, or the process ends.
public struct TrainingInterruption: Error, Equatable, Sendable {
  /// An interruption without a reason, since the caller that stops a run knows why.
  public init() {}
}

/// Decides before each kernel call of a run when the call may begin, so that a run can share the machine.
///
/// A slice is one call of bounded size. It takes about a millisecond, whatever the base's size and the rows' lengths.
public protocol TrainingSlices {
  /// Waits until the run may continue, then calls `work` once on the caller's thread.
  /// - Parameter interruptible: false while parameters are being updated: an update that began is completed
  /// - Throws: `TrainingInterruption`, without calling `work`, if the run is to stop and `interruptible` is true
  func slice(interruptible: Bool, _ work: () -> Void) throws(TrainingInterruption)
}

extension TrainingSlices {
  /// A slice before which the run can be stopped.
  func slice(_ work: () -> Void) throws(TrainingInterruption) { try slice(interruptible: true, work) }

  /// Calls `body` with 0 ..< count in ranges of at most `size`, a slice for each.
  func slices(over count: Int, size: Int, _ body: (Range<Int>) -> Void) throws(TrainingInterruption) {
    for first in stride(from: 0, to: count, by: size) {
      try slice { body(first..<min(first + size, count)) }
    }
  }
}

/// Slices that never wait, for a process that only trains.
public struct UnpacedSlices: TrainingSlices {
  private let shouldStop: () -> Bool

  /// - Parameter shouldStop: called before each slice that is interruptible
  public init(shouldStop: @escaping () -> Bool = { false }) { self.shouldStop = shouldStop }

  /// Calls `work` at once.
  public func slice(interruptible: Bool, _ work: () -> Void) throws(TrainingInterruption) {
    if interruptible, shouldStop() { throw TrainingInterruption() }
    work()
  }
}
