import Synchronization

/// Counts the requests that wait, and refuses further ones when too many wait.
///
/// One client that fills the queue does not lock the others out: while the queue is full, a client with fewer than an
/// eighth of `capacity` waiting is still admitted, up to twice `capacity` in all.
final class AdmissionControl: Sendable {
  private struct State {
    var isClosed = false
    var waiting = 0
    var waitingByClient: [ClientIdentity: Int] = [:]
    var lastID: UInt64 = 0
    /// When a request last left the queue to run.
    var lastStart: ContinuousClock.Instant?
    /// A moving average of the time between two starts, measured while requests wait.
    var secondsPerStart: Double

    /// Counts requests of a client.
    /// - Returns: their ids
    mutating func enter(_ client: ClientIdentity, _ count: Int, own: Int) -> ClosedRange<UInt64> {
      waitingByClient[client] = own + count
      lastID += UInt64(count)
      return lastID - UInt64(count) + 1...lastID
    }

    func overload(waiting: Int) -> EngineError {
      let seconds = (Double(waiting) * secondsPerStart).rounded(.up)
      return .overloaded(waiting: waiting, retryAfter: Int(min(max(seconds, 1), 60)))
    }
  }

  private let capacity: Int
  private let state: Mutex<State>

  /// - Parameters:
  ///   - capacity: maximum requests that wait
  ///   - secondsPerStart: an estimate of the time between two starts, used until it was measured
  init(capacity: Int, secondsPerStart: Double = 0.5) {
    self.capacity = capacity
    state = Mutex(State(secondsPerStart: secondsPerStart))
  }

  /// Admits all of `count` requests of a client, or none.
  /// - Throws: `EngineError.overloaded`, `.exceedsQueue` or `.shuttingDown`
  func admit(_ client: ClientIdentity, count: Int) throws(EngineError) -> [Admission] {
    let ids = try state.withLock { state throws(EngineError) in
      if state.isClosed { throw .shuttingDown }
      guard count <= capacity else { throw .exceedsQueue(answers: count, capacity: capacity) }
      let own = state.waitingByClient[client, default: 0]
      // Background requests take no places from others.
      if client.isBackground {
        guard own + count <= capacity else { throw state.overload(waiting: own) }
        return state.enter(client, count, own: own)
      }
      for index in 0..<count {
        let (waiting, own) = (state.waiting + index, own + index)
        if waiting >= capacity, own >= capacity / 8 || waiting >= 2 * capacity {
          throw state.overload(waiting: state.waiting)
        }
      }
      state.waiting += count
      return state.enter(client, count, own: own)
    }
    let time = ContinuousClock.now
    return ids.map { Admission(id: GenerationID(value: $0), client: client, time: time, control: self) }
  }

  /// Records that a request starts to run, to estimate how long others wait.
  /// - Parameter othersWait: whether requests wait; otherwise the time since the last start says nothing
  func recordStart(othersWait: Bool) {
    let now = ContinuousClock.now
    state.withLock { state in
      if let last = state.lastStart, othersWait {
        state.secondsPerStart = state.secondsPerStart * 0.9 + min(last.duration(to: now) / .seconds(1), 60) * 0.1
      }
      state.lastStart = now
    }
  }

  /// Refuses all further requests.
  func close() { state.withLock { $0.isClosed = true } }

  /// Requests that were admitted and not released.
  var waitingCount: Int { state.withLock { $0.waiting } }

  /// Stops counting a request; called by its `Admission` alone.
  func release(_ client: ClientIdentity) {
    state.withLock { state in
      if !client.isBackground { state.waiting -= 1 }
      let own = state.waitingByClient[client, default: 1] - 1
      state.waitingByClient[client] = own > 0 ? own : nil
    }
  }
}
