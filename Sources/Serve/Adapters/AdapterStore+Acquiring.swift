import Foundation
public import Model
import Synchronization

/// A request's wait for its adapters.
public struct AdapterWait: Sendable {
  fileprivate let id: UInt64
  fileprivate weak var store: AdapterStore?

  /// Ends it without an answer, for a client that is gone.
  public func cancel() { store?.cancel(id) }
}

extension AdapterStore {
  /// Gets the adapters that a request names, from the data folder where they are not in memory. Whoever wants the same
  /// contents waits for one and the same reading. Where adapters in use leave no room, all wait side by side, in the
  /// order in which they came, each for `settings.patience` from now at most.
  /// - Parameters:
  ///   - timeout: the request's own, from now
  ///   - completion: called once, unless the wait is cancelled, with the adapters in the order of `references`; before
  ///     this returns and on the caller's thread if all are in memory or one cannot be had, else on another
  /// - Returns: `nil` if it was answered
  @discardableResult
  public func acquire(
    _ references: [AdapterReference], timeout: Duration? = nil,
    then completion: @Sendable @escaping (Result<[Adapter], AdapterError>) -> Void
  ) -> AdapterWait? {
    let now = ContinuousClock.now
    let versions: [AdapterVersion]
    do throws(AdapterError) {
      let found = try state.withLock { state throws(AdapterError) in
        let versions = try references.map { reference throws(AdapterError) in try version(reference, state) }
        return (versions, state.adapters(versions))
      }
      if let adapters = found.1 {
        completion(.success(adapters))
        return nil
      }
      versions = found.0
    } catch {
      completion(.failure(error))
      return nil
    }
    let (id, step) = state.withLock { state in
      state.waiterCount += 1
      state.waiters.append(
        AdapterWaiter(
          id: state.waiterCount, versions: versions, hashes: Set(versions.map(\.contentHash)),
          patience: now + settings.patience, deadline: timeout.map { now + $0 }, completion: completion,
          held: Array(repeating: nil, count: versions.count)))
      return (state.waiterCount, state.advance(now: now))
    }
    perform(step)
    return step.answers.contains { $0.waiter.id == id } ? nil : AdapterWait(id: id, store: self)
  }

  /// `acquire`, waiting for the outcome. Not for the event loop.
  public func acquireWaiting(_ references: [AdapterReference]) throws(AdapterError) -> [Adapter] {
    let done = DispatchSemaphore(value: 0)
    let result = Mutex<Result<[Adapter], AdapterError>?>(nil)
    acquire(references) { outcome in
      result.withLock { $0 = outcome }
      done.signal()
    }
    done.wait()
    guard let outcome = result.withLock({ $0 }) else { throw AdapterError(.storage, "no adapter was loaded") }
    return try outcome.get()
  }

  private func version(_ reference: AdapterReference, _ state: State) throws(AdapterError) -> AdapterVersion {
    let name = reference.name
    guard let record = state.registry[name], record.isLoaded, reference.version != nil || record.current != nil else {
      throw AdapterError(.unknownName, "no adapter is called '\(name)'")
    }
    guard let version = reference.version.map({ record.version($0) }) ?? record.current else {
      throw AdapterError(.unknownName, "the adapter '\(name)' has no version \(reference.version ?? 0)")
    }
    guard binding.fits(version) else {
      throw AdapterError(.incompatible, "the adapter '\(name)' cannot be used: \(Self.incompatibility(version))")
    }
    return version
  }

  // MARK: waiting

  fileprivate func cancel(_ id: UInt64) {
    // What the waiter holds is released outside the lock.
    let (_, step) = state.withLock { state in (state.remove(waiter: id), state.advance(now: .now)) }
    perform(step)
  }

  /// Lets those who wait have what a change has made possible.
  func advance() { perform(state.withLock { $0.advance(now: .now) }) }

  private func perform(_ step: AdapterWaitingStep) {
    for version in step.reads {
      loader.async { [self] in read(version) }
    }
    step.answer()
    if step.needsTick { tick() }
  }

  /// Nobody tells when a request lets go of an adapter, so it is looked at again after a moment.
  private func tick() {
    let isFirst = state.withLock { state in
      defer { state.isTicking = true }
      return !state.isTicking
    }
    guard isFirst else { return }
    ticker.asyncAfter(deadline: .now() + .milliseconds(5)) { [weak self] in
      guard let self else { return }
      state.withLock { $0.isTicking = false }
      advance()
    }
  }

  /// Reads contents that somebody waits for into memory. On the loader's thread.
  private func read(_ version: AdapterVersion) {
    let hash = version.contentHash
    guard state.withLock({ $0.isReadingWanted(hash) }) else { return advance() }
    do {
      let adapter = try open(contents.location(hash), hash: hash) { try contents.verify(hash) }
      perform(state.withLock { $0.received(adapter, hash, now: .now) })
    } catch {
      let failure = AdapterError(.damaged, "the adapter's stored contents cannot be used: \(error)")
      perform(state.withLock { $0.failed(failure, hash, now: .now) })
    }
  }

  // MARK: registering

  /// Evicts until so many bytes fit, sets them aside, and waits for requests to end where evicting is not enough. Not
  /// for the event loop.
  /// - Parameter patience: how long to wait; with none, requests that wait already come first
  func makeRoom(for bytes: Int, of hash: String, patience: Duration) throws(AdapterError) {
    let deadline = ContinuousClock.now + patience
    while true {
      // What is evicted goes here, outside the lock; its memory is about to be used again.
      let (_, fits, used) = state.withLock { state in
        guard patience > .zero || state.waiters.allSatisfy(\.hasMemory) else {
          return ([Adapter](), false, state.cache.bytes)
        }
        let (evicted, fits) = state.cache.makeRoom(for: bytes)
        if fits { state.cache.reserve(bytes, for: hash) }
        return (evicted, fits, state.cache.bytes)
      }
      if fits { return }
      guard bytes <= settings.memory, ContinuousClock.now < deadline else {
        throw AdapterError(
          .overBudget,
          "the adapter needs \(bytes) bytes, and adapters that are in use or pinned take \(used) of the "
            + "\(settings.memory) that there are for all (see --adapter-memory)")
      }
      Thread.sleep(forTimeInterval: 0.01)
    }
  }
}

extension AdapterStore.State {
  /// The adapters of these versions if all are in memory and none is what somebody waits for.
  fileprivate mutating func adapters(_ versions: [AdapterVersion]) -> [Adapter]? {
    guard versions.allSatisfy({ !obstacles.contains($0.contentHash) && cache.contains($0.contentHash) }) else {
      return nil
    }
    let adapters = versions.compactMap { cache.use($0.contentHash) }
    return adapters.count == versions.count ? adapters : nil
  }
}
