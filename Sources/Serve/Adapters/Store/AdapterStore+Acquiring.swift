import Foundation
public import Model
import Synchronization

/// A request's wait for its adapters; returned by `AdapterStore.acquire`.
public struct AdapterWait: Sendable {
  fileprivate let id: UInt64
  fileprivate weak var store: AdapterStore?

  /// Ends the wait without calling the completion, which is released.
  public func cancel() { store?.cancel(id) }
}

/// Adapters for requests.
extension AdapterStore {
  /// Gets the adapters that a request names, from the data folder where they are not in memory. Contents that several
  /// requests wait for are read once. Where adapters in use leave too little memory, requests wait for it in the order of
  /// their arrival, each for `settings.patience` at most.
  /// - Parameters:
  ///   - timeout: the request's own, from now
  ///   - completion: called once, unless the wait is cancelled, with the adapters in the order of `references`. If all
  ///     are in memory or one cannot be had, it is called on the caller's thread before this returns; otherwise later on
  ///     another thread.
  /// - Returns: `nil` if the completion was called already
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

  /// Like `acquire`, but returns the adapters. Not for the event loop.
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

  /// The version that a reference stands for, if requests can use it.
  func version(_ reference: AdapterReference, _ state: State) throws(AdapterError) -> AdapterVersion {
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
    // The removed waiter, and the adapters that it holds, are freed outside the lock.
    let (_, step) = state.withLock { state in (state.remove(waiter: id), state.advance(now: .now)) }
    perform(step)
  }

  /// Looks at the waiting requests after a change of the state, and answers those that need not wait any longer.
  func advance() { perform(state.withLock { $0.advance(now: .now) }) }

  private func perform(_ step: AdapterWaitingStep) {
    for version in step.reads {
      loader.async { [self] in read(version) }
    }
    step.answer()
    if step.needsTick { tick() }
  }

  /// Looks at the waiting requests again after some milliseconds, because the store is not notified when a request
  /// releases an adapter.
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

  /// Reads contents into memory, for the requests that wait for them. On the loader's thread.
  private func read(_ version: AdapterVersion) {
    let hash = version.contentHash
    guard state.withLock({ $0.isReadingWanted(hash) }) else { return advance() }
    do {
      let adapter = try open(contents.location(hash), hash: hash) { try contents.verify(hash) }
      perform(state.withLock { $0.received(adapter, of: hash, now: .now) })
    } catch {
      let failure = AdapterError(.damaged, "the adapter's stored contents cannot be used: \(error)")
      perform(state.withLock { $0.failed(failure, of: hash, now: .now) })
    }
  }

  // MARK: registering

  /// Evicts adapters until this many more bytes fit, and reserves the bytes. If evicting is not enough, waits for
  /// requests to end. Not for the event loop.
  /// - Parameter patience: how long to wait; with zero, this fails at once if requests wait for memory, because they
  ///   come first
  func makeRoom(for bytes: Int, of hash: String, patience: Duration) throws(AdapterError) {
    let deadline = ContinuousClock.now + patience
    while true {
      // Evicted adapters are freed here, outside the lock. Their memory is about to be used again.
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
            + "\(settings.memory) that there are for all", setting: .memory)
      }
      Thread.sleep(forTimeInterval: 0.01)
    }
  }
}

extension AdapterStore.State {
  /// The adapters of these versions if all are in memory and no waiting request needs the memory of any.
  fileprivate mutating func adapters(_ versions: [AdapterVersion]) -> [Adapter]? {
    guard versions.allSatisfy({ !obstacles.contains($0.contentHash) && cache.contains($0.contentHash) }) else {
      return nil
    }
    let adapters = versions.compactMap { cache.use($0.contentHash) }
    return adapters.count == versions.count ? adapters : nil
  }
}
