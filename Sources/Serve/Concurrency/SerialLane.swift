import Synchronization

/// Runs pieces of work one after the other, in order, on a worker pool that others use too.
final class SerialLane: Sendable {
  private let pool: WorkerPool
  /// The mailbox's only reader is the work that `schedule` gives to the pool. It counts as sleeping while none is
  /// scheduled.
  private let mailbox = Mailbox<WorkerPool.Work>(sleepers: 1)

  /// - Parameter pool: must have no limit on waiting work
  init(_ pool: WorkerPool) { self.pool = pool }

  /// Runs `work` after all work that was given to the lane earlier.
  func async(_ work: @escaping WorkerPool.Work) {
    mailbox.post(work) { schedule() }
  }

  private func schedule() {
    pool.async { [self] in
      guard let work = mailbox.takeFirst() else { return }
      work()
      // Scheduled again, behind the work of other lanes, so that lanes take turns.
      schedule()
    }
  }
}

/// One lane of a worker pool for each key, so that keys take turns at its threads. A lane exists as long as someone holds it or
/// it has work.
final class LaneTable<Key: Hashable & Sendable>: Sendable {
  private struct Entry {
    weak var lane: SerialLane?
  }

  private let pool: WorkerPool
  private let entries = Mutex<[Key: Entry]>([:])

  /// - Parameter pool: must have no limit on waiting work
  init(_ pool: WorkerPool) { self.pool = pool }

  /// The key's lane.
  subscript(key: Key) -> SerialLane {
    entries.withLock { entries in
      if let lane = entries[key]?.lane { return lane }
      entries = entries.filter { $0.value.lane != nil }
      let lane = SerialLane(pool)
      entries[key] = Entry(lane: lane)
      return lane
    }
  }
}
