import Formats
import Kernels
import Model

/// What happens to a request between its submission and its end.
extension EngineLoop {
  /// Queues a new request, or refuses it.
  func enqueue(
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
        echoes: options.echoesPrompt, topLogprobs: options.topLogprobs, promptLogprobs: options.promptLogprobs,
        pools: options.poolsPrompt))
    let generation = Generation(
      request, admission: admission, group: group,
      deadline: options.timeout.map { epoch.duration(to: admission.time) + $0 }, sharesWithAll: cachesPrefixes,
      speculates: speculates, grammarWork: grammarWork, label: label, tokenizer: tokenizer,
      modelVocabularySize: transformer.base.config.vocabularySize, endTokens: endTokens, sink: sink)
    scheduler.enqueue(generation, now: now)
    metrics.update { $0.counts[label].waiting += 1 }
  }

  /// Why a request can never be computed; `nil` if it can.
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

  /// The group of requests with this key, of which the new request becomes a member.
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
  func start(_ generation: Generation) {
    generation.admission.release()
    admissions.recordStart(othersWait: scheduler.waitingCount > 0)
    metrics.update { state in
      state.counts[generation.label].promptTokens += generation.request.prompt.count
      state.prefixQueries += 1
    }
    resume(generation)
  }

  /// A request begins to run, or runs again after a preemption.
  func resume(_ generation: Generation) {
    metrics.update { $0.counts[generation.label].waiting -= 1 }
    generation.usePromptResults(of: generation.group)
    shareBlocks(generation)
  }

  /// Lets a request share the blocks that the cache has of its tokens.
  func shareBlocks(_ generation: Generation) {
    let isFirst = generation.usage.cachedTokens == 0
    let gained = generation.shareBlocks(of: cache)
    guard gained > 0 else { return }
    metrics.update { state in
      state.prefixHits += isFirst ? 1 : 0
      state.prefixHitTokens += gained
    }
  }

  /// Releases a running request's blocks.
  func preempt(_ generation: Generation) {
    generation.releaseBlocks(to: cache)
    generation.preempted()
    metrics.update { state in
      state.preemptions += 1
      state.counts[generation.label].waiting += 1
    }
  }

  /// Ends a request whose deadline has passed.
  func expire(_ generation: Generation) {
    generation.expire()
    remove(generation.id, as: .timeout)
    generation.sendEvents()
  }

  /// Removes a request from the engine and releases its blocks, whether it waits or runs.
  func remove(_ id: GenerationID, as outcome: EngineMetrics.Outcome) {
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
}
