import Synchronization

/// Counts the requests that wait, and refuses those that are too many.
///
/// One client that fills the queue does not lock the others out: each may have an eighth of the capacity beyond it.
final class AdmissionControl: Sendable {
  private struct State {
    var isClosed = false
    var waiting = 0
    var waitingByClient: [ClientIdentity: Int] = [:]
    var lastID: UInt64 = 0
    /// When a request last left the queue to run.
    var lastStart: ContinuousClock.Instant?
    /// A moving average of the time between two starts while requests wait.
    var secondsPerStart: Double

    func overload(waiting: Int) -> EngineError {
      let seconds = (Double(waiting) * secondsPerStart).rounded(.up)
      return .overloaded(waiting: waiting, retryAfter: Int(min(max(seconds, 1), 60)))
    }
  }

  private let capacity: Int
  private let state: Mutex<State>

  /// - Parameters:
  ///   - capacity: maximum requests that wait
  ///   - secondsPerStart: about how long it takes until one of those that wait starts, before that was measured
  init(capacity: Int, secondsPerStart: Double = 0.5) {
    self.capacity = capacity
    state = Mutex(State(secondsPerStart: secondsPerStart))
  }

  /// Admits so many requests of a client, all or none.
  /// - Throws: `EngineError.overloaded` or `.shuttingDown`
  func admit(_ client: ClientIdentity, count: Int) throws(EngineError) -> [Admission] {
    let ids = try state.withLock { state throws(EngineError) in
      if state.isClosed { throw .shuttingDown }
      let own = state.waitingByClient[client, default: 0]
      for index in 0..<count {
        let (waiting, own) = (state.waiting + index, own + index)
        if waiting >= capacity, own >= capacity / 8 || waiting >= 2 * capacity {
          throw state.overload(waiting: waiting)
        }
      }
      state.waiting += count
      state.waitingByClient[client] = own + count
      state.lastID += UInt64(count)
      return state.lastID - UInt64(count) + 1...state.lastID
    }
    let time = ContinuousClock.now
    return ids.map { Admission(id: GenerationID(value: $0), client: client, time: time, control: self) }
  }

  /// Notes that a request starts to run, from which the wait of others is estimated.
  /// - Parameter othersWait: the time since the last start was not for want of requests
  func recordStart(othersWait: Bool) {
    let now = ContinuousClock.now
    state.withLock { state in
      if let last = state.lastStart, othersWait {
        state.secondsPerStart = state.secondsPerStart * 0.9 + min(last.duration(to: now) / .seconds(1), 60) * 0.1
      }
      state.lastStart = now
    }
  }

  /// Admits nobody any more.
  func close() { state.withLock { $0.isClosed = true } }

  /// Requests that were admitted and not released.
  var waitingCount: Int { state.withLock { $0.waiting } }

  /// Ends the count of a request; called by its ticket alone.
  func release(_ client: ClientIdentity) {
    state.withLock { state in
      state.waiting -= 1
      let own = state.waitingByClient[client, default: 1] - 1
      state.waitingByClient[client] = own > 0 ? own : nil
    }
  }
}
