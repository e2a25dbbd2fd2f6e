import Dispatch
import Synchronization

/// Shares the thread pool between the engine's passes and training's pieces of work: one of them at a time, passes first.
///
/// A pass waits for the piece of training in progress, and for no other, unless training is owed time. Then the pass
/// hands the pool over: training goes on until it has its share, and wakes the engine. A piece of training never begins
/// while a pass waits or runs, nor between two passes while requests run.
///
/// One thread calls `serve`, one `train`; any may call the others.
final class ComputeLease: Sendable {
  private enum Holder { case nobody, serving, training }

  private struct State {
    var pacer: TrainingPacer
    var holder = Holder.nobody
    /// The engine sleeps until the pool is its own.
    var passWaits = false
    /// The training thread sleeps until it may go on.
    var trainingWaits = false
    /// Until when training may go on though a pass waits.
    var handedOverUntil: ContinuousClock.Instant?

    /// Whether training may take the pool.
    func mayTrain(_ now: ContinuousClock.Instant) -> Bool {
      guard holder == .nobody else { return false }
      return passWaits ? isHandedOver(now) : !pacer.requestsRun
    }

    func isHandedOver(_ now: ContinuousClock.Instant) -> Bool {
      guard let handedOverUntil else { return false }
      return now < handedOverUntil && pacer.mayTrain
    }
  }

  private let state: Mutex<State>
  private let passCanBegin = DispatchSemaphore(value: 0)
  private let trainingCanGoOn = DispatchSemaphore(value: 0)

  /// What waking a thread may take, beside the time that training is owed.
  private static let allowance = Duration.milliseconds(1)

  /// - Parameter share: training's of the time while requests leave none over, 0...0.9
  init(trainingShare share: Double) { state = Mutex(State(pacer: TrainingPacer(share: share))) }

  // MARK: serving

  /// Runs a pass with the pool to itself, after what training is owed. From now on requests run.
  func serve<Value>(_ pass: () throws -> Value) rethrows -> Value {
    takeForPass()
    defer { state.withLock { $0.holder = .nobody } }
    return try pass()
  }

  private func takeForPass() {
    state.withLock { state in
      state.pacer.requestsRun = true
      // Training that does something else meanwhile is not waited for.
      guard state.trainingWaits, state.pacer.mayTrain else { return }
      state.handedOverUntil = .now + state.pacer.owed + Self.allowance
      wakeTraining(&state)
    }
    while let deadline = state.withLock({ beginPass(&$0) }) { _ = passCanBegin.wait(timeout: deadline) }
  }

  /// Takes the pool if it is free.
  /// - Returns: when to ask again at the latest, if it is not
  private func beginPass(_ state: inout State) -> DispatchTime? {
    let now = ContinuousClock.now
    state.passWaits = state.holder != .nobody || state.isHandedOver(now)
    guard state.passWaits else {
      state.holder = .serving
      state.handedOverUntil = nil
      return nil
    }
    guard let end = state.handedOverUntil, now < end else { return .distantFuture }
    return .now() + .nanoseconds(Int(now.duration(to: end) / .nanoseconds(1)))
  }

  /// Counts a pass, with all that went with it, for what training is owed.
  func completedPass(in time: Duration) {
    // Training that does not wait for its turn is owed nothing.
    state.withLock { if $0.trainingWaits { $0.pacer.served(for: time) } }
  }

  /// No request runs: training has the pool until the next pass.
  func servingPauses() {
    state.withLock { state in
      state.pacer.requestsRun = false
      wakeTraining(&state)
    }
  }

  /// The share of the time between passes that goes to training: 0 if there is none.
  var trainingShare: Double { state.withLock { $0.trainingWaits ? $0.pacer.share : 0 } }

  // MARK: training

  /// Runs one piece of training, of a millisecond or two, when the pool is free for it.
  /// - Parameter isStopped: asked before; `wakeTraining` has it asked again
  /// - Returns: how long the piece took; `nil` if it was not begun because training is stopped
  func train(unless isStopped: () -> Bool, _ work: () -> Void) -> Duration? {
    while true {
      let decision = state.withLock { decide(&$0, unless: isStopped) }
      switch decision {
      case .goOn: return run(work)
      case .stop: return nil
      case .wait: trainingCanGoOn.wait()
      }
    }
  }

  private enum Decision { case goOn, wait, stop }

  /// Takes the pool for training if it may have it.
  private func decide(_ state: inout State, unless isStopped: () -> Bool) -> Decision {
    // Asked under the lock: whoever stops training afterwards finds it waiting, and wakes it.
    if isStopped() { return .stop }
    guard state.mayTrain(.now) else {
      state.trainingWaits = true
      return .wait
    }
    state.holder = .training
    return .goOn
  }

  private func run(_ work: () -> Void) -> Duration {
    let started = ContinuousClock.now
    work()
    let ended = ContinuousClock.now
    let time = started.duration(to: ended)
    state.withLock { state in
      state.pacer.trained(for: time)
      state.holder = .nobody
      if state.passWaits, !state.isHandedOver(ended) { passCanBegin.signal() }
    }
    return time
  }

  /// Has a training thread that waits look whether it is stopped.
  func wakeTraining() { state.withLock { wakeTraining(&$0) } }

  private func wakeTraining(_ state: inout State) {
    guard state.trainingWaits else { return }
    state.trainingWaits = false
    trainingCanGoOn.signal()
  }
}
