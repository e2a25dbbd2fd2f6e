internal import Model

/// A request that waits for adapters.
struct AdapterWaiter: Sendable {
  let id: UInt64
  /// One for each reference, in the order of the references.
  let versions: [AdapterVersion]
  let hashes: Set<String>
  /// When it stops waiting for memory.
  let patience: ContinuousClock.Instant
  /// When it stops waiting for anything; `nil`: never.
  let deadline: ContinuousClock.Instant?
  let completion: @Sendable (Result<[Adapter], AdapterError>) -> Void
  /// Whether memory is reserved for all of its adapters that are not in memory yet.
  var hasMemory = false
  /// The adapters that it holds already, in the order of `versions`; all `nil` before `hasMemory`.
  var held: [Adapter?]
}

/// What must be done after a change of the state, once the lock is released.
struct AdapterWaitingStep {
  /// Freed together with this value, outside the lock.
  var evicted: [Adapter] = []
  /// Contents to be read. Memory for them is reserved.
  var reads: [AdapterVersion] = []
  /// Completions to be called.
  var answers: [(waiter: AdapterWaiter, result: Result<[Adapter], AdapterError>)] = []
  /// Whether the store must look again later, because a request's time may run out or memory may be released.
  var needsTick = false

  /// Calls the completions.
  func answer() {
    for (waiter, result) in answers { waiter.completion(result) }
  }
}

/// The requests that wait for adapters: pure changes of the state.
extension AdapterStore.State {
  /// Gives memory to the requests that wait for it, in the order of their arrival, and ends the wait of those whose
  /// time has passed. A request's time counts from its own arrival.
  mutating func advance(now: ContinuousClock.Instant) -> AdapterWaitingStep {
    var step = AdapterWaitingStep()
    end(&step) { waiter in
      waiter.deadline.map { $0 <= now } == true
        ? AdapterError(.timedOut, "the request's timeout was over before its adapters were in memory") : nil
    }
    giveMemory(&step)
    let (budget, used) = (cache.budget, cache.bytes)
    let sizes = sizes
    end(&step) { waiter in
      if waiter.hasMemory { return nil }
      let sizes = waiter.versions.reduce(into: [:]) { $0[$1.contentHash] = sizes[$1.contentHash] ?? $1.memoryBytes }
      let bytes = sizes.values.reduce(0, +)
      if bytes <= budget, waiter.patience > now { return nil }
      return AdapterError(
        .overBudget,
        "the adapter needs \(bytes) bytes, and adapters that are in use or pinned take \(used) of the \(budget) that "
          + "there are for all", setting: .memory)
    }
    giveMemory(&step)
    step.needsTick = waiters.contains { !$0.hasMemory || $0.deadline != nil }
    return step
  }

  /// Removes a request whose client has left.
  mutating func remove(waiter id: UInt64) -> AdapterWaiter? {
    guard let index = waiters.firstIndex(where: { $0.id == id }) else { return nil }
    return waiters.remove(at: index)
  }

  /// Removes the requests that `reason` has an error for, and answers them with it.
  private mutating func end(_ step: inout AdapterWaitingStep, _ reason: (AdapterWaiter) -> AdapterError?) {
    waiters.removeAll { waiter in
      guard let error = reason(waiter) else { return false }
      step.answers.append((waiter, .failure(error)))
      return true
    }
  }

  /// If there is too little memory for a request, later requests overtake it only if they need no memory and use none
  /// of the adapters whose memory it waits for. So memory that others release goes to that request, and it does not
  /// wait for ever.
  private mutating func giveMemory(_ step: inout AdapterWaitingStep) {
    obstacles = []
    var isBlocked = false
    for index in waiters.indices where !waiters[index].hasMemory {
      let hashes = waiters[index].hashes
      let missing = hashes.filter { !cache.contains($0) && !reading.contains($0) }
      if isBlocked {
        guard missing.isEmpty, obstacles.isDisjoint(with: hashes) else { continue }
      } else if !missing.isEmpty {
        let bytes = waiters[index].versions.reduce(into: [:]) { sizes, version in
          if missing.contains(version.contentHash) { sizes[version.contentHash] = size(version) }
        }.values.reduce(0, +)
        let (evicted, fits) = cache.makeRoom(for: bytes, sparing: hashes)
        step.evicted += evicted
        guard fits else {
          isBlocked = true
          obstacles = cache.obstacles(to: bytes, sparing: hashes)
          continue
        }
      }
      waiters[index].hasMemory = true
      for (term, version) in waiters[index].versions.enumerated() {
        let hash = version.contentHash
        waiters[index].held[term] = cache.use(hash)
        if waiters[index].held[term] == nil, reading.insert(hash).inserted {
          cache.reserve(size(version), for: hash)
          step.reads.append(version)
        }
      }
    }
    answerComplete(&step)
  }

  /// Bytes in memory of a version: as measured, or as recorded at its registration.
  private func size(_ version: AdapterVersion) -> Int { sizes[version.contentHash] ?? version.memoryBytes }

  /// Answers the requests that have all their adapters.
  private mutating func answerComplete(_ step: inout AdapterWaitingStep) {
    waiters.removeAll { waiter in
      guard waiter.hasMemory else { return false }
      let adapters = waiter.held.compactMap(\.self)
      guard adapters.count == waiter.versions.count else { return false }
      step.answers.append((waiter, .success(adapters)))
      return true
    }
  }

  // MARK: reading

  /// Whether a request still waits for contents that are about to be read. If none does, their reservation ends.
  mutating func isReadingWanted(_ hash: String) -> Bool {
    if waiters.contains(where: { $0.hasMemory && $0.hashes.contains(hash) }) { return true }
    reading.remove(hash)
    cache.giveUpReservation(of: hash)
    return false
  }

  /// Gives an adapter that was read to all requests that wait for it.
  mutating func received(_ adapter: Adapter, of hash: String, now: ContinuousClock.Instant) -> AdapterWaitingStep {
    var step = AdapterWaitingStep()
    reading.remove(hash)
    cache.giveUpReservation(of: hash)
    damages[hash] = nil
    sizes[hash] = adapter.bytes
    // An adapter that is registered is also read, and may be in the cache by now.
    var usable = cache.use(hash)
    if usable == nil {
      let (evicted, fits) = cache.makeRoom(for: adapter.bytes)
      step.evicted += evicted
      if fits {
        cache.insert(adapter, hash: hash, keeping: registry.isNameable(hash))
        usable = adapter
      }
    }
    for index in waiters.indices where waiters[index].hasMemory && waiters[index].hashes.contains(hash) {
      for (term, version) in waiters[index].versions.enumerated() where version.contentHash == hash {
        waiters[index].held[term] = usable
      }
      // The adapter takes more memory than its record says, so its requests wait again, for the larger amount.
      if usable == nil { waiters[index].hasMemory = false }
      if !waiters[index].hasMemory { waiters[index].held = waiters[index].held.map { _ in nil } }
    }
    answerComplete(&step)
    return joined(step, advance(now: now))
  }

  /// Answers all requests that wait for contents which cannot be read.
  mutating func failed(_ error: AdapterError, of hash: String, now: ContinuousClock.Instant) -> AdapterWaitingStep {
    var step = AdapterWaitingStep()
    reading.remove(hash)
    cache.giveUpReservation(of: hash)
    if error.kind == .damaged { damages[hash] = error }
    end(&step) { $0.hasMemory && $0.hashes.contains(hash) ? error : nil }
    return joined(step, advance(now: now))
  }

  private func joined(_ first: AdapterWaitingStep, _ second: AdapterWaitingStep) -> AdapterWaitingStep {
    AdapterWaitingStep(
      evicted: first.evicted + second.evicted, reads: first.reads + second.reads,
      answers: first.answers + second.answers, needsTick: second.needsTick)
  }
}
