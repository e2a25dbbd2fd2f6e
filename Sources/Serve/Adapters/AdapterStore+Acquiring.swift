import Foundation
public import Model
import Synchronization

extension AdapterStore {
  /// Gets the adapters that a request names, from the data folder where they are not in memory. Whoever wants the same
  /// contents waits for one and the same reading.
  /// - Parameter completion: called with the adapters in the order of `references`; before this returns and on the
  ///   caller's thread if all are in memory or one cannot be had, else on the loader's thread
  public func acquire(
    _ references: [AdapterReference], then completion: @Sendable @escaping (Result<[Adapter], AdapterError>) -> Void
  ) {
    let gathering = Gathering(count: references.count, completion)
    var missing: [(index: Int, version: AdapterVersion, reading: Bool)] = []
    do throws(AdapterError) {
      try state.withLock { state throws(AdapterError) in
        let versions = try references.map { reference throws(AdapterError) in try version(reference, state) }
        for (index, version) in versions.enumerated() {
          let hash = version.contentHash
          if let adapter = state.cache.use(hash) {
            gathering.set(index, adapter)
          } else {
            missing.append((index, version, state.waiting[hash] == nil))
            state.waiting[hash, default: []].append { gathering.receive($0, at: index) }
          }
        }
      }
    } catch {
      return completion(.failure(error))
    }
    for entry in missing where entry.reading {
      loader.async { [self] in bring(entry.version) }
    }
    gathering.finishIfComplete()
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
    guard let record = state.records[name], record.isLoaded, let current = record.current else {
      throw AdapterError(.unknownName, "no adapter is called '\(name)'")
    }
    var version = current
    if let number = reference.version {
      guard let found = record.version(number) else {
        throw AdapterError(.unknownName, "the adapter '\(name)' has no version \(number)")
      }
      version = found
    }
    guard binding.fits(version) else {
      throw AdapterError(.incompatible, "the adapter '\(name)' cannot be used: \(Self.incompatibility(version))")
    }
    return version
  }

  /// Reads contents into memory and hands them to all who wait for them. On the loader's thread.
  private func bring(_ version: AdapterVersion) {
    let hash = version.contentHash
    var outcome: Result<Adapter, AdapterError>
    do throws(AdapterError) { outcome = .success(try read(version)) } catch { outcome = .failure(error) }
    let waiting = state.withLock { state in
      if case .success(let adapter) = outcome {
        // Another reading may have ended meanwhile: registering reads too.
        if let living = state.cache.use(hash) {
          outcome = .success(living)
        } else {
          let isKnown = state.records.values.contains { record in
            record.isLoaded && record.versions.contains { $0.contentHash == hash }
          }
          state.cache.insert(adapter, hash: hash, keeping: isKnown)
        }
        state.damages[hash] = nil
      } else if case .failure(let error) = outcome, error.kind == .damaged {
        state.damages[hash] = error.description
      }
      return state.waiting.removeValue(forKey: hash) ?? []
    }
    for callback in waiting { callback(outcome) }
  }

  private func read(_ version: AdapterVersion) throws(AdapterError) -> Adapter {
    try makeRoom(for: version.memoryBytes, patience: settings.patience)
    let adapter: Adapter
    do {
      let hash = version.contentHash
      adapter = try open(contents.location(hash), hash: hash) { try contents.verify(hash) }
    } catch {
      throw AdapterError(.damaged, "the adapter's stored contents cannot be used: \(error)")
    }
    if adapter.bytes > version.memoryBytes { try makeRoom(for: adapter.bytes, patience: settings.patience) }
    return adapter
  }

  /// Evicts until so many bytes fit, and waits for requests to end where that is not enough. Not for the event loop.
  /// - Parameter patience: how long to wait
  func makeRoom(for bytes: Int, patience: Duration) throws(AdapterError) {
    let deadline = ContinuousClock.now + patience
    while true {
      // What is evicted goes here, outside the lock; its memory is about to be used again.
      let (_, fits, used) = state.withLock { state in
        let (evicted, fits) = state.cache.makeRoom(for: bytes, pinned: pinned(state))
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

/// The adapters of one request as they come in.
private final class Gathering: Sendable {
  private struct State {
    var adapters: [Adapter?]
    var isOver = false
  }

  private let state: Mutex<State>
  private let completion: @Sendable (Result<[Adapter], AdapterError>) -> Void

  init(count: Int, _ completion: @Sendable @escaping (Result<[Adapter], AdapterError>) -> Void) {
    state = Mutex(State(adapters: Array(repeating: nil, count: count)))
    self.completion = completion
  }

  func set(_ index: Int, _ adapter: Adapter) { state.withLock { $0.adapters[index] = adapter } }

  func receive(_ result: Result<Adapter, AdapterError>, at index: Int) {
    switch result {
    case .success(let adapter):
      state.withLock { if !$0.isOver { $0.adapters[index] = adapter } }
      finishIfComplete()
    case .failure(let error):
      let isFirst = state.withLock { state in
        defer {
          state.isOver = true
          state.adapters = []
        }
        return !state.isOver
      }
      if isFirst { completion(.failure(error)) }
    }
  }

  func finishIfComplete() {
    let adapters: [Adapter]? = state.withLock { state in
      let found = state.adapters.compactMap(\.self)
      guard !state.isOver, found.count == state.adapters.count else { return nil }
      state.isOver = true
      state.adapters = []
      return found
    }
    if let adapters { completion(.success(adapters)) }
  }
}
