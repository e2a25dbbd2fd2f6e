import Dispatch
import Foundation
import Synchronization

/// A checkpoint that is being written on a queue, from the adapter itself: whoever trains changes no parameter until it
/// is done.
///
/// `@unchecked Sendable`: the adapter's buffers are only read until `result` is there; the rest is a mutex and constants.
final class CheckpointWriting: @unchecked Sendable {
  /// What it holds.
  let progress: TrainerProgress
  private let state = Mutex<Result<URL, any Error>?>(nil)
  private let finished = DispatchSemaphore(value: 0)

  private static let queue = DispatchQueue(label: "checkpoints")

  /// - Parameter then: called on the queue when the checkpoint is durable, or cannot be written
  init(_ progress: TrainerProgress, _ write: @escaping () throws -> URL, then: @escaping @Sendable () -> Void) {
    self.progress = progress
    // Runs once, and nothing else calls it.
    nonisolated(unsafe) let write = write
    Self.queue.async { [self] in
      let result = Result { try write() }
      state.withLock { $0 = result }
      finished.signal()
      then()
    }
  }

  /// What came of it; `nil` until it is known.
  var result: Result<URL, any Error>? { state.withLock { $0 } }

  func wait() -> Result<URL, any Error>? {
    finished.wait()
    finished.signal()
    return result
  }
}
