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
  private let inbox = EngineInbox()
  private let admissions: AdmissionControl
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
  private let finished = DispatchSemaphore(value: 0)

  public init(transformer: Transformer, cache: KeyValueCache, tokenizer: Tokenizer, settings: Settings = Settings()) {
    self.transformer = transformer
    self.cache = cache
    self.tokenizer = tokenizer
    cachesPrefixes = settings.cachesPrefixes
    admissions = AdmissionControl(capacity: max(settings.maxQueue, 1))
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
    admissions.close()
    inbox.close()
    finished.wait()
    finished.signal()
  }

  // MARK: requests

  /// Admits requests of a client, all or none: from now on they count among those that wait, and their time runs.
  /// - Parameter label: what the metrics call their adapters
  /// - Throws: `EngineError.overloaded` or `.shuttingDown`
  func admit(_ client: ClientIdentity, label: String, count: Int) throws(EngineError) -> [Admission] {
    do { return try admissions.admit(client, count: count) } catch {
      countRejections(label: label, count)
      throw error
    }
  }

  /// Hands admitted requests to the engine's thread, which gets them between the same two passes, so that requests with
  /// the same prompt find each other.
  /// - Parameters:
  ///   - admissions: one for each request
  ///   - sink: gets the request's index and what happens to it, on the engine's thread, or on the caller's if the engine
  ///     was stopped; must not wait for anything
  func submit(
    _ requests: [GenerationRequest], admissions: [Admission], sink: @escaping @Sendable (Int, GenerationEvent) -> Void
  ) {
    let messages = zip(requests, admissions).enumerated().map { index, item in
      EngineInbox.Message.submit(item.0, item.1) { sink(index, $0) }
    }
    guard !inbox.post(messages) else { return }
    for (index, request) in requests.enumerated() {
      countRejections(label: request.label, 1)
      sink(index, .failed(.shuttingDown))
    }
  }

  /// Admits one request and hands it to the engine's thread.
  /// - Parameter sink: gets what happens to it, on the engine's thread, or on the caller's if it is refused; must not wait
  ///   for anything
  public func submit(
    _ request: GenerationRequest, client: ClientIdentity = ClientIdentity(),
    sink: @escaping @Sendable (GenerationEvent) -> Void
  ) -> GenerationID {
    do {
      let admissions = try admit(client, label: request.label, count: 1)
      submit([request], admissions: admissions) { sink($1) }
      return admissions[0].id
    } catch {
      sink(.failed(error))
      return .refused
    }
  }

  private func countRejections(label: String, _ count: Int) {
    metrics.update { metrics in
      let index = metrics.index(of: label)
      for _ in 0..<count { metrics.end(index, .rejected) }
    }
  }

  /// Ends a generation without another event, at the next pass at the latest.
  public func cancel(_ id: GenerationID) { inbox.post(.cancel(id)) }

  /// How long the engine's thread has had something to do without coming back for more; zero while it waits. Beyond a few
  /// seconds it hangs.
  public var turnAge: Duration { inbox.turnAge }

  // MARK: the engine's thread

  private func run() {
    while true {
      if scheduler.isEmpty { lease.servingPauses() }
      for message in inbox.drain(waiting: scheduler.isEmpty) {
        switch message {
        case .submit(let request, let admission, let sink): enqueue(request, admission, sink: sink)
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

  private func enqueue(
    _ request: GenerationRequest, _ admission: Admission, sink: @escaping @Sendable (GenerationEvent) -> Void
  ) {
    let label = metrics.update { $0.index(of: request.label) }
    if let error = refusal(of: request) {
      admission.release()
      metrics.update { $0.end(label, .failed) }
      return sink(.failed(error))
    }
    let options = request.options
    let group = group(
      .init(
        stream: StreamKey(client: admission.client, adapters: PrefixKey(request.adapters)), prompt: request.prompt,
        echoes: options.echoesPrompt, topLogprobs: options.topLogprobs))
    let generation = Generation(
      request, admission: admission, group: group,
      deadline: options.timeout.map { epoch.duration(to: admission.time) + $0 }, sharesWithAll: cachesPrefixes,
      label: label, tokenizer: tokenizer, endTokens: endTokens, sink: sink)
    scheduler.enqueue(generation, now: now)
    metrics.update { $0.counts[label].waiting += 1 }
  }

  private func refusal(of request: GenerationRequest) -> EngineError? {
    let vocabulary = transformer.base.config.vocabularySize
    if let token = request.prompt.first(where: { $0 < 0 || Int($0) >= vocabulary }) {
      return .noSuchToken(token, vocabulary: vocabulary)
    }
    let (positions, overflow) = request.prompt.count.addingReportingOverflow(request.options.maxTokens)
    guard !request.prompt.isEmpty, !overflow, positions <= transformer.contextLength else {
      return .exceedsContext(positions: positions, contextLength: transformer.contextLength)
    }
    // The last token's keys and values are never computed.
    let needed = request.prompt.count + max(request.options.maxTokens - 1, 0)
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
    generation.admission.release()
    admissions.recordStart(othersWait: scheduler.waitingCount > 0)
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
    generation.admission.release()
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
          state.timeToFirstToken.observe(generation.admission.time.duration(to: ended) / .seconds(1))
        }
        generation.lastToken = ended
      }
    }
  }
}
