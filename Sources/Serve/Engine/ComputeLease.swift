import Dispatch
import Synchronization

/// Shares the thread pool between the engine's passes and training's kernel calls: only one of them uses it at a time,
/// and passes come first.
///
/// A pass waits at most for the training call in progress, unless training is owed time. Then the pass first hands the
/// pool over: training continues until it has its share, then wakes the engine. At all other times no training call
/// begins while a pass waits or runs, nor between two passes while requests run.
///
/// One thread calls `serve`, one thread calls `train`. The other methods can be called from any thread.
final class ComputeLease: Sendable {
  private enum Holder { case nobody, serving, training }

  private struct State {
    var pacer: TrainingPacer
    var holder = Holder.nobody
    /// The engine sleeps until it can have the pool.
    var passWaits = false
    /// The training thread sleeps until it may continue.
    var trainingWaits = false
    /// The time until which training may continue although a pass waits.
    var handedOverUntil: ContinuousClock.Instant?

    /// Whether training may take the pool.
    func mayTrain(_ now: ContinuousClock.Instant) -> Bool {
      guard holder == .nobody else { return false }
      // Checked first, because a pass hands the pool over before it begins to wait.
      return isHandedOver(now) || (!passWaits && !pacer.requestsRun)
    }

    func isHandedOver(_ now: ContinuousClock.Instant) -> Bool {
      guard let handedOverUntil else { return false }
      return now < handedOverUntil && pacer.mayTrain
    }
  }

  private let state: Mutex<State>
  private let now: @Sendable () -> ContinuousClock.Instant
  private let passCanBegin = DispatchSemaphore(value: 0)
  private let trainingCanContinue = DispatchSemaphore(value: 0)

  /// The time that waking the training thread takes, which is added to a hand-over.
  private static let allowance = Duration.milliseconds(1)

  /// - Parameters:
  ///   - share: training's share of the time, 0...0.9, if requests leave no time free
  ///   - now: reads the clock
  init(trainingShare share: Double, now: @escaping @Sendable () -> ContinuousClock.Instant = { .now }) {
    state = Mutex(State(pacer: TrainingPacer(share: share)))
    self.now = now
  }

  // MARK: serving

  /// Runs a pass while nothing else uses the pool, after training got the time that it is owed. From then on, requests
  /// count as running until `servingPauses` is called.
  func serve<Value>(_ pass: () throws -> Value) rethrows -> Value {
    takeForPass()
    defer { state.withLock { $0.holder = .nobody } }
    return try pass()
  }

  private func takeForPass() {
    state.withLock { state in
      state.pacer.requestsRun = true
      // The pass does not wait for a training thread that is busy with something else, such as a checkpoint.
      guard state.trainingWaits, state.pacer.mayTrain else { return }
      state.handedOverUntil = now() + state.pacer.owed + Self.allowance
      wakeTraining(&state)
    }
    while let deadline = state.withLock({ beginPass(&$0) }) { _ = passCanBegin.wait(timeout: deadline) }
  }

  /// Takes the pool for a pass if it is free.
  /// - Returns: `nil` if the pass may begin; otherwise when to try again, unless the engine is woken earlier
  private func beginPass(_ state: inout State) -> DispatchTime? {
    let now = now()
    state.passWaits = state.holder != .nobody || state.isHandedOver(now)
    guard state.passWaits else {
      state.holder = .serving
      state.handedOverUntil = nil
      return nil
    }
    guard let end = state.handedOverUntil, now < end else { return .distantFuture }
    return .now() + .nanoseconds(Int(now.duration(to: end) / .nanoseconds(1)))
  }

  /// Adds training's share of a pass's time to what training is owed.
  /// - Parameter time: of the pass, including the engine's work before and after it
  func completedPass(in time: Duration) {
    // A training thread that does not wait for the pool is owed nothing.
    state.withLock { if $0.trainingWaits { $0.pacer.served(for: time) } }
  }

  /// Called when no request runs. Training may use the pool until the next pass.
  func servingPauses() {
    state.withLock { state in
      state.pacer.requestsRun = false
      wakeTraining(&state)
    }
  }

  /// Training's share of the time while a training thread waits for the pool; 0 if none waits.
  var trainingShare: Double { state.withLock { $0.trainingWaits ? $0.pacer.share : 0 } }

  // MARK: training

  /// Makes one training call, of about a millisecond, when training may use the pool.
  /// - Parameter isStopped: asked before the call, and again after `wakeTraining`
  /// - Returns: how long the call took; `nil` if it was not made because training is stopped
  func train(unless isStopped: () -> Bool, _ work: () -> Void) -> Duration? {
    while true {
      let decision = state.withLock { decide(&$0, unless: isStopped) }
      switch decision {
      case .proceed: return run(work)
      case .stop: return nil
      case .wait: trainingCanContinue.wait()
      }
    }
  }

  /// Ends a hand-over. The training thread calls it before it does something else for long or ends, so that no pass waits
  /// for it.
  func endHandOver() { state.withLock { endHandOver(&$0) } }

  private func endHandOver(_ state: inout State) {
    state.handedOverUntil = nil
    wakePass(&state)
  }

  /// Wakes a waiting pass if it may begin. At most one signal is sent for each time that the pass begins to wait.
  private func wakePass(_ state: inout State) {
    // The clock is read under the lock. So if the pass has seen that the hand-over is over, this sees it too.
    guard state.passWaits, state.holder == .nobody, !state.isHandedOver(now()) else { return }
    state.passWaits = false
    passCanBegin.signal()
  }

  private enum Decision { case proceed, wait, stop }

  /// Takes the pool for training if it may have it.
  private func decide(_ state: inout State, unless isStopped: () -> Bool) -> Decision {
    // Asked under the lock: a stop that comes later finds `trainingWaits` set, and wakes the thread.
    if isStopped() {
      endHandOver(&state)
      return .stop
    }
    guard state.mayTrain(now()) else {
      state.trainingWaits = true
      // The time of the hand-over may have passed since the last call.
      wakePass(&state)
      return .wait
    }
    state.holder = .training
    return .proceed
  }

  private func run(_ work: () -> Void) -> Duration {
    let started = now()
    work()
    let time = started.duration(to: now())
    state.withLock { state in
      state.pacer.trained(for: time)
      state.holder = .nobody
      wakePass(&state)
    }
    return time
  }

  /// Wakes a waiting training thread, so that it asks again whether it is stopped.
  func wakeTraining() { state.withLock { wakeTraining(&$0) } }

  private func wakeTraining(_ state: inout State) {
    guard state.trainingWaits else { return }
    state.trainingWaits = false
    trainingCanContinue.signal()
  }
}
