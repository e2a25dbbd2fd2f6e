import Foundation
import Kernels
public import Model

/// The engine thread: drains the inbox, asks the scheduler, computes, samples, tells the sinks.
///
/// `@unchecked Sendable`: only the inbox and the metrics are touched from other threads; all else belongs to the
/// engine's own.
public final class Engine: @unchecked Sendable {
  public struct Settings: Sendable {
    /// Most rows of one forward pass.
    public var rowBudget: Int
    /// Most requests that run at once.
    public var maxRunning: Int
    /// Most requests that wait; those beyond are refused.
    public var maxQueue: Int
    /// Keeps the keys and values of what was computed for requests that begin alike.
    public var cachesPrefixes: Bool
    /// About the longest pass while requests decode: prompts beside them are cut to fit.
    public var stepTarget: Duration?
    /// The share of the time that training gets while requests leave none over, 0...0.9.
    public var trainingShare: Double

    public init(
      rowBudget: Int = 128, maxRunning: Int = 256, maxQueue: Int = 256, cachesPrefixes: Bool = true,
      stepTarget: Duration? = .milliseconds(200), trainingShare: Double = 0.1
    ) {
      self.rowBudget = rowBudget
      self.maxRunning = maxRunning
      self.maxQueue = maxQueue
      self.cachesPrefixes = cachesPrefixes
      self.stepTarget = stepTarget
      self.trainingShare = trainingShare
    }
  }

  let metrics = EngineMetrics()
  private let inbox: EngineInbox
  private let transformer: Transformer
  private let cache: KeyValueCache
  private let tokenizer: Tokenizer
  private let endTokens: Set<Int32>
  private let samplingWorkspaces: SamplingWorkspaces
  private let cachesPrefixes: Bool
  private var scheduler: Scheduler
  private var training: (any SlicedWork)?
  private var generations: [GenerationID: Generation] = [:]
  /// Groups whose prompt is not computed yet.
  private var groups: [PromptGroup.Key: PromptGroup] = [:]
  private var groupCount: UInt64 = 0
  private let epoch = ContinuousClock.now
  /// The scheduler's clock.
  private var now: Duration { epoch.duration(to: .now) }
  private var lastStart: ContinuousClock.Instant?
  private var secondsPerStart = 0.5
  private let finished = DispatchSemaphore(value: 0)

  public init(transformer: Transformer, cache: KeyValueCache, tokenizer: Tokenizer, settings: Settings = Settings()) {
    self.transformer = transformer
    self.cache = cache
    self.tokenizer = tokenizer
    cachesPrefixes = settings.cachesPrefixes
    inbox = EngineInbox(capacity: max(settings.maxQueue, 1))
    endTokens = Set(transformer.base.config.eosTokens + tokenizer.eosTokens)
    samplingWorkspaces = SamplingWorkspaces(vocabularySize: transformer.base.config.vocabularySize)
    let rows = max(min(settings.rowBudget, transformer.maxRows), 1)
    scheduler = Scheduler(
      limits: .init(
        rowBudget: rows, running: max(settings.maxRunning, 1), logitRows: rows, stepTarget: settings.stepTarget,
        trainingShare: settings.trainingShare))
    recordState()
  }

  /// The most positions, prompt and answer together, that a request can have.
  public var positionLimit: Int { min(transformer.contextLength, cache.positionCapacity) }

  /// Starts the engine's thread.
  public func start() {
    let thread = Thread { [self] in
      run()
      finished.signal()
    }
    thread.name = "engine"
    thread.stackSize = 4 << 20
    thread.start()
  }

  /// Ends every generation with `EngineError.shuttingDown` and waits for the thread. May be called again.
  public func stop() {
    inbox.close()
    finished.wait()
    finished.signal()
  }

  /// Hands a request in. `sink` is called on the engine's thread, or on the caller's if the engine was stopped or too
  /// many requests wait, and must not wait for anything.
  public func submit(
    _ request: GenerationRequest, sink: @escaping @Sendable (GenerationEvent) -> Void
  ) -> GenerationID {
    let (id, refusal) = inbox.submit(request, sink: sink)
    if let refusal {
      metrics.update { $0.end($0.index(of: request.label), .rejected) }
      sink(.failed(refusal))
    }
    return id
  }

  /// Requests that `body` hands in reach the scheduler at once, so that the choices of a completion find each other.
  public func together(_ body: () -> Void) { inbox.together(body) }

  /// How long the engine's thread has had work at hand without coming round; zero while it has none. Beyond a few seconds
  /// it hangs.
  public var turnAge: Duration { inbox.turnAge }

  /// Counts a request among those that wait, `Settings.maxQueue` at most, before it can be handed in: it waits for its
  /// adapters. `leavePlace` ends that.
  /// - Returns: why it may not wait
  public func takePlace() -> EngineError? { inbox.takePlace() }

  public func leavePlace() { inbox.leavePlace() }

  /// Ends a generation without another event, at the next pass at the latest.
  public func cancel(_ id: GenerationID) { inbox.cancel(id) }

  /// Does this work in slices from now on, when requests leave time for it and at a share of the time when they do
  /// not; in the place of the work before.
  /// - Returns: false once the engine was stopped
  func perform(_ work: any SlicedWork) -> Bool { inbox.post(.work(work)) }

  /// The work that waited can go on.
  func resumeWork() { inbox.post(.resumeWork) }

  // MARK: the engine's thread

  private func run() {
    while true {
      for message in inbox.drain(waiting: scheduler.isEmpty && !scheduler.hasTraining) {
        switch message {
        case .submit(let submission): admit(submission)
        case .cancel(let id): remove(id, .cancelled)
        case .work(let work):
          training = work
          scheduler.hasTraining = true
        case .resumeWork: scheduler.hasTraining = training != nil
        case .stop:
          training?.engineStops()
          training = nil
          for generation in generations.values {
            generation.fail(.shuttingDown)
            generation.flush()
          }
          generations = [:]
          return
        }
      }
      act()
    }
  }

  /// Does what the scheduler says, up to the next pass, and shows the state after it.
  private func act() {
    while true {
      let action = scheduler.next(
        now: now, freeBlocks: cache.freeBlockCount, shared: sharedBlocks, common: commonTokens)
      switch action {
      case .admit(let id): start(id)
      case .preempt(let id): preempt(id)
      case .expire(let id): expire(id)
      case .step(let slices): return step(slices)
      case .train:
        train()
        return recordState()
      case .idle: return recordState()
      }
    }
  }

  private func train() {
    let started = ContinuousClock.now
    let outcome = training?.advance() ?? .done
    let time = started.duration(to: .now)
    scheduler.trained(for: time)
    metrics.update { $0.trainingSlices.observe(time / .seconds(1)) }
    switch outcome {
    case .more: break
    case .waiting: scheduler.hasTraining = false
    case .done:
      training = nil
      scheduler.hasTraining = false
    }
  }

  private func admit(_ submission: EngineInbox.Submission) {
    let request = submission.request
    let label = metrics.update { $0.index(of: request.label) }
    if let error = refusal(of: request) {
      inbox.leftQueue(request.client)
      metrics.update { $0.end(label, .failed) }
      return submission.sink(.failed(error))
    }
    let stream = StreamKey(client: request.client, adapters: PrefixKey(request.adapters))
    let group = group(
      .init(
        stream: stream, prompt: request.prompt, echoes: request.echoesPrompt, topLogprobs: request.topLogprobs))
    let generation = Generation(
      submission, prefixKey: cachesPrefixes ? stream.adapters : PrefixKey(request.adapters, group: group.id),
      group: group, label: label, tokenizer: tokenizer, endTokens: endTokens)
    generations[submission.id] = generation
    scheduler.enqueue(
      .init(
        id: submission.id, stream: stream, promptLength: request.prompt.count, scoresPrompt: request.scoresPrompt,
        group: group.id, deadline: request.timeout.map { epoch.duration(to: submission.time) + $0 }), now: now)
    metrics.update { $0.counts[label].waiting += 1 }
  }

  private func refusal(of request: GenerationRequest) -> EngineError? {
    let vocabulary = transformer.base.config.vocabularySize
    if let token = request.prompt.first(where: { $0 < 0 || Int($0) >= vocabulary }) {
      return .noSuchToken(token, vocabulary: vocabulary)
    }
    let (positions, overflow) = request.prompt.count.addingReportingOverflow(request.maxTokens)
    guard !request.prompt.isEmpty, !overflow, positions <= transformer.contextLength else {
      return .exceedsContext(positions: positions, contextLength: transformer.contextLength)
    }
    // The last token's keys and values are never computed.
    let needed = request.prompt.count + max(request.maxTokens - 1, 0)
    guard needed <= cache.positionCapacity else {
      return .exceedsCache(positions: needed, capacity: cache.positionCapacity)
    }
    return nil
  }

  private func group(_ key: PromptGroup.Key) -> PromptGroup {
    let group: PromptGroup
    if let found = groups[key] {
      group = found
      group.isShared = true
    } else {
      groupCount += 1
      group = PromptGroup(id: groupCount, key: key)
      groups[key] = group
    }
    group.members += 1
    return group
  }

  private func sharesPrefix(_ generation: Generation) -> Bool { cachesPrefixes || generation.group.isShared }

  private func sharedBlocks(_ id: GenerationID) -> Int {
    guard let generation = generations[id], sharesPrefix(generation) else { return 0 }
    return cache.sharedBlockCount(tokens: generation.tokens, limit: generation.cacheLimit, key: generation.prefixKey)
  }

  /// How many of a generation's first tokens can come from what another computes.
  private func commonTokens(_ id: GenerationID, _ other: GenerationID) -> Int {
    guard let generation = generations[id], let other = generations[other], sharesPrefix(generation),
      sharesPrefix(other), generation.prefixKey == other.prefixKey
    else { return 0 }
    return min(generation.cacheLimit, generation.commonTokens(with: other))
  }

  /// A request begins to run, or does so again.
  private func start(_ id: GenerationID) {
    guard let generation = generations[id] else { return scheduler.remove(id, now: now) }
    if let records = generation.group.records { generation.adopt(records) }
    if !generation.hasStarted { leftQueue(generation.request.client) }
    metrics.update { state in
      state.counts[generation.label].waiting -= 1
      if generation.hasStarted { return }
      state.counts[generation.label].promptTokens += generation.request.prompt.count
      state.prefixQueries += 1
    }
    generation.start()
    takeOver(generation)
  }

  /// Gives a generation what the cache holds of its tokens beyond those that it has.
  private func takeOver(_ generation: Generation) {
    guard sharesPrefix(generation) else { return }
    let before = generation.usage.cachedTokens
    generation.takeOver(
      cache.begin(
        &generation.table, computed: generation.computed, tokens: generation.tokens, limit: generation.cacheLimit,
        key: generation.prefixKey))
    scheduler.found(generation.id, computed: generation.computed, blocks: generation.table.blocks.count)
    let gained = generation.usage.cachedTokens - before
    guard gained > 0 else { return }
    metrics.update { state in
      state.prefixHits += before == 0 ? 1 : 0
      state.prefixHitTokens += gained
    }
  }

  /// Tells the inbox of a start, and how fast those that wait come to start.
  private func leftQueue(_ client: ClientIdentity) {
    let now = ContinuousClock.now
    if let lastStart, scheduler.waitingCount > 0 {
      secondsPerStart = secondsPerStart * 0.9 + min(lastStart.duration(to: now) / .seconds(1), 60) * 0.1
    }
    lastStart = now
    inbox.leftQueue(client, secondsPerStart: secondsPerStart)
  }

  private func preempt(_ id: GenerationID) {
    guard let generation = generations[id] else { return }
    keep(generation)
    metrics.update { state in
      state.preemptions += 1
      state.counts[generation.label].waiting += 1
    }
  }

  private func expire(_ id: GenerationID) {
    guard let generation = generations[id] else { return scheduler.remove(id, now: now) }
    generation.expire()
    remove(id, .timeout)
    generation.flush()
  }

  /// Gives a generation's blocks back, findable for those that begin alike.
  private func keep(_ generation: Generation) {
    publish(generation, partial: true)
    cache.release(&generation.table)
    generation.loseCache()
  }

  private func publish(_ generation: Generation, partial: Bool) {
    guard sharesPrefix(generation) else { return }
    cache.publish(
      &generation.table, tokens: generation.tokens, length: generation.computed, partial: partial,
      key: generation.prefixKey)
  }

  private func remove(_ id: GenerationID, _ outcome: EngineMetrics.Outcome) {
    guard let generation = generations.removeValue(forKey: id) else { return }
    let isWaiting = !scheduler.isRunning(id)
    if isWaiting, !generation.hasStarted { inbox.leftQueue(generation.request.client) }
    scheduler.remove(id, now: now)
    keep(generation)
    let group = generation.group
    group.members -= 1
    if group.members == 0, groups[group.key] === group { groups[group.key] = nil }
    metrics.update { state in
      state.end(generation.label, outcome)
      if isWaiting { state.counts[generation.label].waiting -= 1 }
    }
  }

  /// What is shown of the engine between passes.
  private func recordState() { metrics.update { show(in: &$0) } }

  private func show(in state: inout EngineMetrics.State) {
    state.running = scheduler.runningCount
    state.blocksTotal = cache.blockCount
    state.blocksCached = cache.cachedBlockCount
    state.blocksUsed = cache.blockCount - cache.freeBlockCount
    state.bytesPerBlock = cache.bytesPerBlock
    state.evictions = cache.evictions
  }

  // MARK: a pass

  private struct Work {
    var generation: Generation
    var positions: Range<Int>
    var wanted: Range<Int>
    var isOver = false
    var hasFailed = false
    var madeToken = false
  }

  private func step(_ slices: [Scheduler.Slice]) {
    let started = ContinuousClock.now
    var work = work(slices)
    let batch = ForwardBatch(
      segments: work.map { item in
        let generation = item.generation
        return .init(
          tokens: Array(generation.tokens[item.positions]), position: item.positions.lowerBound,
          table: generation.table, adapters: generation.request.adapters, logits: item.wanted)
      })
    // Of each of the pass's segments; nil where the numbers are not finite.
    var records: [[TokenRecord]?] = []
    transformer.forward(batch, cache: cache) { logits, ld, overflowed in
      records = read(work, logits, ld, skipping: overflowed)
    }
    for (index, records) in records.enumerated() {
      let generation = work[index].generation
      guard let records else {
        generation.fail(.notFinite(hasAdapters: !generation.request.adapters.terms.isEmpty))
        work[index].hasFailed = true
        continue
      }
      let before = generation.usage.completionTokens
      work[index].isOver = generation.advance(work[index].positions, records: records[...])
      work[index].madeToken = generation.usage.completionTokens > before
    }
    // What a failed one has computed in this pass is not to be found by others.
    for item in work where !item.hasFailed { settle(item) }
    let ended = ContinuousClock.now
    for item in work where item.isOver {
      remove(item.generation.id, item.generation.finishReason == .stop ? .stop : .length)
    }
    for item in work where item.hasFailed { remove(item.generation.id, .failed) }
    for id in scheduler.prompts { generations[id].map(takeOver) }
    record(work, rows: batch.rowCount, started, ended)
    // All at once, so that the loop's thread is woken once.
    for item in work { item.generation.flush() }
    // With all that goes with a pass: training's share is one of the whole time.
    scheduler.completed(rows: batch.rowCount, in: started.duration(to: .now))
  }

  /// What a pass computes, those with the same adapters side by side.
  private func work(_ slices: [Scheduler.Slice]) -> [Work] {
    var work: [Work] = []
    work.reserveCapacity(slices.count)
    for slice in slices {
      guard let generation = generations[slice.id] else { continue }
      let fits = cache.extend(&generation.table, to: slice.positions.upperBound)
      precondition(fits, "the scheduler hands out only blocks that are free")
      work.append(
        Work(
          generation: generation, positions: slice.positions, wanted: generation.wantedLogits(slice.positions)))
    }
    if work.count > 2 { work.sort { $0.generation.adapterOrder < $1.generation.adapterOrder } }
    return work
  }

  /// Makes what was computed findable, and lets those go on that waited for a prompt.
  private func settle(_ item: Work) {
    let generation = item.generation
    let completesPrompt =
      item.positions.upperBound >= generation.request.prompt.count
      && item.positions.lowerBound < generation.request.prompt.count
    if completesPrompt, groups[generation.group.key] === generation.group { groups[generation.group.key] = nil }
    publish(generation, partial: completesPrompt)
  }

  /// What the wanted rows say, read by all the pool's threads: for each item of work a record for each of its rows, `nil`
  /// for one whose logits are not all finite.
  /// - Parameters:
  ///   - logits: [wanted rows][ld]
  ///   - skipped: the items that are not read either, and get `nil`
  private func read(
    _ work: [Work], _ logits: UnsafeMutablePointer<Float>, _ ld: Int, skipping skipped: [Bool]
  ) -> [[TokenRecord]?] {
    let rows = work.indices.flatMap { index in work[index].wanted.map { (item: index, row: $0) } }
    let (compute, vocabulary) = (transformer.compute, transformer.base.config.vocabularySize)
    let read = [TokenRecord?](unsafeUninitializedCapacity: rows.count) { records, count in
      count = rows.count
      guard let records = records.baseAddress else { return }
      compute.pool.run(parts: rows.count) { part in
        let (item, row) = rows[part]
        let logits = LogitRow(UnsafeBufferPointer(start: logits + part * ld, count: vocabulary), compute: compute)
        guard !skipped[item], logits.isFinite else { return (records + part).initialize(to: nil) }
        let workspace = samplingWorkspaces.take()
        let record = work[item].generation.read(
          logits, at: work[item].positions.lowerBound + row, compute: compute, workspace: workspace)
        samplingWorkspaces.giveBack(workspace)
        (records + part).initialize(to: record)
      }
    }
    var first = 0
    return work.indices.map { index in
      let records = read[first..<first + work[index].wanted.count]
      first += records.count
      let found = records.compactMap(\.self)
      return skipped[index] || found.count < records.count ? nil : found
    }
  }

  private func record(
    _ work: [Work], rows: Int, _ started: ContinuousClock.Instant, _ ended: ContinuousClock.Instant
  ) {
    metrics.update { state in
      show(in: &state)
      state.stepSeconds.observe(started.duration(to: ended) / .seconds(1))
      state.batchRows.observe(Double(rows))
      for item in work where item.madeToken {
        let generation = item.generation
        state.counts[generation.label].generatedTokens += 1
        if let last = generation.lastToken {
          state.interToken.observe(last.duration(to: ended) / .seconds(1))
        } else {
          state.timeToFirstToken.observe(generation.submitted.duration(to: ended) / .seconds(1))
        }
        generation.lastToken = ended
      }
    }
  }
}
