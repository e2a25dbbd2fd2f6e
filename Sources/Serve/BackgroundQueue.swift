/// Work that is done in order on a thread of its own, which steps back when the threads that compute want the
/// processors: reading an adapter then stretches a token's time by little instead of doubling it.
final class BackgroundQueue: Sendable {
  private let pool: WorkerPool

  /// - Parameter niceness: 0...19, of which each step gives about a tenth less of a processor that others want, too
  init(label: String, niceness: Int32) {
    pool = WorkerPool(label: label, threads: 1, niceness: niceness)
  }

  func async(_ work: @escaping WorkerPool.Work) { pool.async(work) }
}
