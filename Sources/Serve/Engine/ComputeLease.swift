import Dispatch
import Synchronization

/// Shares the thread pool between the engine's passes and training's kernel calls: one at a time, passes first.
///
/// A pass waits for the training call in progress, at most. Only if training is owed time, the pass hands the pool over
/// first: training continues until it has its share, then wakes the engine. No training call begins while a pass waits or
/// runs, nor between two passes while requests run.
///
/// One thread calls `serve`, one thread calls `train`. The other methods can be called from any thread.
final class ComputeLease: Sendable {
  private enum Holder { case nobody, serving, training }

  private struct State {
    var pacer: TrainingPacer
    var holder = Holder.nobody
    /// The engine sleeps until the pool is its own.
    var passWaits = false
    /// The training thread sleeps until it may go on.
    var trainingWaits = false
    /// Until when training may continue although a pass waits.
    var handedOverUntil: ContinuousClock.Instant?

    /// Whether training may take the pool.
    func mayTrain(_ now: ContinuousClock.Instant) -> Bool {
      guard holder == .nobody else { return false }
      // A hand-over begins before the pass waits.
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

  /// Time to wake the training thread, added to what training is owed.
  private static let allowance = Duration.milliseconds(1)

  /// - Parameters:
  ///   - share: training's of the time while requests leave none over, 0...0.9
  ///   - now: reads the clock
  init(trainingShare share: Double, now: @escaping @Sendable () -> ContinuousClock.Instant = { .now }) {
    state = Mutex(State(pacer: TrainingPacer(share: share)))
    self.now = now
  }

  // MARK: serving

  /// Runs a pass while nothing else uses the pool, after training got what it is owed. Requests run until
  /// `servingPauses`.
  func serve<Value>(_ pass: () throws -> Value) rethrows -> Value {
    takeForPass()
    defer { state.withLock { $0.holder = .nobody } }
    return try pass()
  }

  private func takeForPass() {
    state.withLock { state in
      state.pacer.requestsRun = true
      // A training thread that is busy with something else, with a checkpoint for one, is not waited for.
      guard state.trainingWaits, state.pacer.mayTrain else { return }
      state.handedOverUntil = now() + state.pacer.owed + Self.allowance
      wakeTraining(&state)
    }
    while let deadline = state.withLock({ beginPass(&$0) }) { _ = passCanBegin.wait(timeout: deadline) }
  }

  /// Takes the pool if it is free.
  /// - Returns: `nil` if the pass may begin; otherwise when to ask again, if nobody wakes the engine before
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

  /// Adds a pass to what training is owed.
  /// - Parameter time: of the pass, with the engine's work before and after it
  func completedPass(in time: Duration) {
    // A training thread that does not wait for the pool is owed nothing.
    state.withLock { if $0.trainingWaits { $0.pacer.served(for: time) } }
  }

  /// No request runs: training may use the pool until the next pass.
  func servingPauses() {
    state.withLock { state in
      state.pacer.requestsRun = false
      wakeTraining(&state)
    }
  }

  /// The share of the time between passes that goes to training: 0 if there is none.
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

  /// Makes a pass that waits look again. At most one signal is sent for each time that it begins to wait.
  private func wakePass(_ state: inout State) {
    state.passWaits = false
    passCanBegin.signal()
  }

  private enum Decision { case proceed, wait, stop }

  /// Takes the pool for training if it may have it.
  private func decide(_ state: inout State, unless isStopped: () -> Bool) -> Decision {
    // Under the lock: a stop after this finds the training thread waiting, and wakes it.
    if isStopped() {
      // A pass that handed the pool over does not wait for a training thread that leaves.
      state.handedOverUntil = nil
      if state.passWaits, state.holder == .nobody { wakePass(&state) }
      return .stop
    }
    guard state.mayTrain(now()) else {
      state.trainingWaits = true
      // The hand-over may have ended since the last call.
      if state.passWaits, state.holder == .nobody { wakePass(&state) }
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
      // The time is taken under the lock: if a pass has found before that the hand-over is past, so does this.
      if state.passWaits, !state.isHandedOver(now()) { wakePass(&state) }
    }
    return time
  }

  /// Makes a waiting training thread ask again whether it is stopped.
  func wakeTraining() { state.withLock { wakeTraining(&$0) } }

  private func wakeTraining(_ state: inout State) {
    guard state.trainingWaits else { return }
    state.trainingWaits = false
    trainingCanContinue.signal()
  }
}
