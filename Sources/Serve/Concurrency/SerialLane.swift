/// Runs work one item after the other, in order, on a pool that others use too.
final class SerialLane: Sendable {
  private let pool: WorkerPool
  /// Its reader is the lane on the pool. It sleeps while the lane is not scheduled.
  private let mailbox = Mailbox<WorkerPool.Work>(sleepers: 1)

  /// - Parameter pool: has to take any amount of work
  init(_ pool: WorkerPool) { self.pool = pool }

  /// Runs `work` after the work that was handed in before.
  func async(_ work: @escaping WorkerPool.Work) {
    mailbox.post(work) { schedule() }
  }

  private func schedule() {
    pool.async { [self] in
      guard let work = mailbox.takeFirst() else { return }
      work()
      // Behind the other lanes' work.
      schedule()
    }
  }
}
