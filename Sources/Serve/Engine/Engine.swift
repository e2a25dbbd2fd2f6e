import Formats
public import Tokenization
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
  /// Shares the transformer's thread pool with training.
  let lease: ComputeLease
  private let inbox: EngineInbox
  private let transformer: Transformer
  private let cache: KeyValueCache
  private let tokenizer: Tokenizer
  private let endTokens: Set<Int32>
  private let samplingWorkspaces: SamplingWorkspaces
  private let cachesPrefixes: Bool
  private var scheduler: Scheduler<Generation>
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
    lease = ComputeLease(trainingShare: settings.trainingShare)
    endTokens = Set(transformer.base.config.eosTokens + tokenizer.eosTokens)
    samplingWorkspaces = SamplingWorkspaces(vocabularySize: transformer.base.config.vocabularySize)
    let rows = max(min(settings.rowBudget, transformer.maxRows), 1)
    scheduler = Scheduler(
      limits: .init(
        rowBudget: rows, running: max(settings.maxRunning, 1), logitRows: rows, stepTarget: settings.stepTarget))
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

  // MARK: the engine's thread

  private func run() {
    while true {
      if scheduler.isEmpty { lease.servingPauses() }
      for message in inbox.drain(waiting: scheduler.isEmpty) {
        switch message {
        case .submit(let submission): admit(submission)
        case .cancel(let id): remove(id, .cancelled)
        case .stop:
          lease.servingPauses()
          for generation in scheduler.sequences {
            generation.fail(.shuttingDown)
            generation.sendEvents()
            scheduler.remove(generation.id, now: now)
          }
          return
        }
      }
      act()
    }
  }

  /// Does what the scheduler says, up to the next pass, and shows the state after it.
  private func act() {
    scheduler.trainingShare = lease.trainingShare
    while true {
      let action = scheduler.next(now: now, freeBlocks: cache.freeBlockCount) { [cache] in
        $0.sharedBlockCount(in: cache)
      }
      switch action {
      case .admit(let generation): start(generation)
      case .resume(let generation): resume(generation)
      case .preempt(let generation): preempt(generation)
      case .expire(let generation): expire(generation)
      case .step(let chunks): return step(chunks)
      case .idle: return recordState()
      }
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
      submission, group: group, deadline: request.timeout.map { epoch.duration(to: submission.time) + $0 },
      sharesWithAll: cachesPrefixes, label: label, tokenizer: tokenizer, endTokens: endTokens)
    scheduler.enqueue(generation, now: now)
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

  /// A request begins to run.
  private func start(_ generation: Generation) {
    leftQueue(generation.request.client)
    metrics.update { state in
      state.counts[generation.label].promptTokens += generation.request.prompt.count
      state.prefixQueries += 1
    }
    resume(generation)
  }

  /// A request begins to run, or runs again after a preemption.
  private func resume(_ generation: Generation) {
    metrics.update { $0.counts[generation.label].waiting -= 1 }
    generation.usePromptRecords(of: generation.group)
    shareBlocks(generation)
  }

  private func shareBlocks(_ generation: Generation) {
    let isFirst = generation.usage.cachedTokens == 0
    let gained = generation.shareBlocks(of: cache)
    guard gained > 0 else { return }
    metrics.update { state in
      state.prefixHits += isFirst ? 1 : 0
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

  private func preempt(_ generation: Generation) {
    generation.releaseBlocks(to: cache)
    generation.preempted()
    metrics.update { state in
      state.preemptions += 1
      state.counts[generation.label].waiting += 1
    }
  }

  private func expire(_ generation: Generation) {
    generation.expire()
    remove(generation.id, .timeout)
    generation.sendEvents()
  }

  private func remove(_ id: GenerationID, _ outcome: EngineMetrics.Outcome) {
    guard let (generation, phase) = scheduler.remove(id, now: now) else { return }
    if phase == .waiting { inbox.leftQueue(generation.request.client) }
    generation.releaseBlocks(to: cache)
    let group = generation.group
    group.members -= 1
    if group.members == 0, groups[group.key] === group { groups[group.key] = nil }
    metrics.update { metrics in
      metrics.end(generation.label, outcome)
      if phase != .running { metrics.counts[generation.label].waiting -= 1 }
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
    let generation: Generation
    let positions: Range<Int>
    /// Positions whose logits are needed, as indices into `positions`.
    let needed: Range<Int>
    var hasEnded = false
    var hasFailed = false
    var madeToken = false
  }

  private func step(_ chunks: [Scheduler<Generation>.Chunk]) {
    var work = work(chunks)
    let batch = ForwardBatch(
      segments: work.map { item in
        let generation = item.generation
        return .init(
          tokens: Array(generation.tokens[item.positions]), position: item.positions.lowerBound,
          table: generation.table, adapters: generation.request.adapters, logits: item.needed)
      })
    // Of each of the pass's segments; nil where the numbers are not finite.
    var records: [[TokenRecord]?] = []
    let started = lease.serve {
      // Training that the pass waited for is not counted with it.
      let started = ContinuousClock.now
      transformer.forward(batch, cache: cache) { logits, ld, overflowed in
        records = read(work, logits, ld, skipping: overflowed)
      }
      return started
    }
    for (index, records) in records.enumerated() {
      let generation = work[index].generation
      guard let records else {
        generation.fail(.notFinite(hasAdapters: !generation.request.adapters.terms.isEmpty))
        work[index].hasFailed = true
        continue
      }
      let before = generation.usage.completionTokens
      work[index].hasEnded = generation.advance(over: work[index].positions, records: records)
      work[index].madeToken = generation.usage.completionTokens > before
    }
    // What a failed one has computed in this pass must not be shared.
    for item in work where !item.hasFailed { publish(item) }
    let ended = ContinuousClock.now
    for item in work where item.hasEnded {
      remove(item.generation.id, item.generation.finishReason == .stop ? .stop : .length)
    }
    for item in work where item.hasFailed { remove(item.generation.id, .failed) }
    for generation in scheduler.prompts { shareBlocks(generation) }
    record(work, rows: batch.rowCount, started, ended)
    // All at once, so that the loop's thread is woken once.
    for item in work { item.generation.sendEvents() }
    // With all that goes with a pass: training's share is one of the whole time.
    let time = started.duration(to: .now)
    scheduler.completed(rows: batch.rowCount, in: time)
    lease.completedPass(in: time)
  }

  /// What a pass computes, chunks with the same adapters side by side.
  private func work(_ chunks: [Scheduler<Generation>.Chunk]) -> [Work] {
    var work: [Work] = []
    work.reserveCapacity(chunks.count)
    for chunk in chunks {
      let generation = chunk.sequence
      guard generation.allocateBlocks(covering: chunk.positions.upperBound, in: cache) else {
        // Its progress stays as it is, so it is only late.
        assertionFailure("the scheduler plans within the free blocks")
        continue
      }
      work.append(
        Work(
          generation: generation, positions: chunk.positions, needed: generation.neededLogits(chunk.positions)))
    }
    if work.count > 2 { work.sort { $0.generation.adapterOrder < $1.generation.adapterOrder } }
    return work
  }

  /// Lets others share what was computed. A prompt that is complete gets no further followers.
  private func publish(_ item: Work) {
    let generation = item.generation
    let completesPrompt =
      item.positions.upperBound >= generation.promptLength && item.positions.lowerBound < generation.promptLength
    if completesPrompt, groups[generation.group.key] === generation.group { groups[generation.group.key] = nil }
    generation.publishBlocks(in: cache, partial: completesPrompt)
  }

  /// What the needed rows say, read by all the pool's threads: for each item of work a record for each of its rows, `nil`
  /// for one whose logits are not all finite.
  /// - Parameters:
  ///   - logits: [needed rows][ld]
  ///   - skipped: the items that are not read either, and get `nil`
  private func read(
    _ work: [Work], _ logits: UnsafeMutablePointer<Float>, _ ld: Int, skipping skipped: [Bool]
  ) -> [[TokenRecord]?] {
    let rows = work.indices.flatMap { index in work[index].needed.map { (item: index, row: $0) } }
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
      let records = read[first..<first + work[index].needed.count]
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
