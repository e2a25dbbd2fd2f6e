import Formats
import Kernels
import Model
import Tokenization

/// One forward pass over chunks of many requests.
extension EngineLoop {
  /// A chunk of a pass, and its result.
  private struct Work {
    let generation: Generation
    let positions: Range<Int>
    /// Positions whose logits are needed, as indices into `positions`.
    let needed: Range<Int>
    var hasEnded = false
    var hasFailed = false
    var madeTokens = 0
    /// How many of the positions are those of the draft.
    let drafted: Int
  }

  /// Computes a pass, gives each generation its results, and removes those that ended.
  func step(_ chunks: [Scheduler<Generation>.Chunk]) {
    var work = work(chunks)
    let batch = ForwardBatch(
      segments: work.map { item in
        let generation = item.generation
        return .init(
          tokens: generation.inputs(item.positions), position: item.positions.lowerBound,
          table: generation.table, adapters: generation.request.adapters, logits: item.needed,
          hiddenStates: generation.pooledRows(item.positions))
      })
    // For each segment of the pass, the records of its rows; `nil` if they are not finite.
    var records: [[TokenRecord]?] = []
    let started = lease.serve {
      // The time that the pass waited for training does not count as its own.
      let started = ContinuousClock.now
      transformer.forward(batch, cache: cache) { results in
        records = read(
          work, logits: results.logits, stride: results.logitStride, skipping: results.overflowed)
        pool(work, results)
      }
      return started
    }
    for (index, records) in records.enumerated() {
      let generation = work[index].generation
      if records == nil, work[index].drafted > 0 {
        // Perhaps only the numbers of a wrong draft.
        generation.discardDraft()
        continue
      }
      guard let records else {
        generation.fail(.notFinite(hasAdapters: !generation.request.adapters.terms.isEmpty))
        work[index].hasFailed = true
        continue
      }
      let before = generation.usage.completionTokens
      let hasEnded = generation.advance(over: work[index].positions, records: records)
      work[index].hasFailed = generation.hasFailed
      work[index].hasEnded = hasEnded && !generation.hasFailed
      work[index].madeTokens = generation.usage.completionTokens - before
    }
    // The blocks of a failed generation must not be shared.
    for item in work where !item.hasFailed { publish(item) }
    let ended = ContinuousClock.now
    for item in work where item.hasEnded {
      remove(item.generation.id, as: item.generation.finishReason == .stop ? .stop : .length)
    }
    for item in work where item.hasFailed { remove(item.generation.id, as: .failed) }
    for generation in scheduler.prompts { shareBlocks(generation) }
    recordPass(work, rows: batch.rowCount, from: started, to: ended)
    // All events are sent together, so that the event loop's thread is woken once.
    for item in work { item.generation.sendEvents() }
    // Including the work before and after the pass, because training's share is a share of the whole time.
    let time = started.duration(to: .now)
    let isDecoding = work.allSatisfy { $0.positions.count - $0.drafted == 1 }
    scheduler.completed(rows: batch.rowCount, isDecoding: isDecoding, in: time)
    lease.completedPass(in: time)
  }

  /// The pass's chunks with the ranges of their needed logits, sorted so that chunks with the same adapters follow one
  /// another.
  private func work(_ chunks: [Scheduler<Generation>.Chunk]) -> [Work] {
    var work: [Work] = []
    work.reserveCapacity(chunks.count)
    for chunk in chunks {
      let generation = chunk.sequence
      guard generation.allocateBlocks(covering: chunk.positions.upperBound, in: cache) else {
        // The chunk is left out. Its progress stays as it is, so a later pass computes it.
        assertionFailure("the scheduler plans within the free blocks")
        continue
      }
      work.append(
        Work(
          generation: generation, positions: chunk.positions, needed: generation.neededLogits(chunk.positions),
          drafted: generation.draftedCount(chunk.positions)))
    }
    if work.count > 2 { work.sort { $0.generation.adapterOrder < $1.generation.adapterOrder } }
    return work
  }

  /// Lets others share what was computed. When a prompt is complete, its group takes no further members.
  private func publish(_ item: Work) {
    let generation = item.generation
    let completesPrompt =
      item.positions.upperBound >= generation.promptLength && item.positions.lowerBound < generation.promptLength
    if completesPrompt, groups[generation.group.key] === generation.group { groups[generation.group.key] = nil }
    generation.publishBlocks(in: cache, partial: completesPrompt)
  }

  /// Reads the needed rows of logits on all threads of the pool. Returns, for each item of work, the records of its rows, or
  /// `nil` if not all of its logits are finite.
  /// - Parameters:
  ///   - logits: [needed rows][stride]
  ///   - skipped: for each item, whether it is not read; its result is then `nil`
  private func read(
    _ work: [Work], logits: UnsafeMutablePointer<Float>, stride: Int, skipping skipped: [Bool]
  ) -> [[TokenRecord]?] {
    /// Rows that one thread reads one after another.
    struct Part {
      let item: Int
      let rows: Range<Int>
      /// The logits of the first of them.
      let logits: UnsafeMutablePointer<Float>
    }
    var parts: [Part] = []
    var count = 0
    for (index, item) in work.enumerated() {
      for rows in item.generation.readingRanges(item.needed, of: item.positions) {
        parts.append(Part(item: index, rows: rows, logits: logits + count * stride))
        count += rows.count
      }
    }
    let (compute, vocabulary) = (transformer.compute, transformer.base.config.vocabularySize)
    let read = [[TokenRecord]?](unsafeUninitializedCapacity: parts.count) { records, count in
      count = parts.count
      guard let records = records.baseAddress else { return }
      compute.pool.run(parts: parts.count) { number in
        let part = parts[number]
        guard !skipped[part.item] else { return (records + number).initialize(to: nil) }
        let found = samplingWorkspaces.withWorkspace { workspace in
          work[part.item].generation.read(
            part.rows, of: work[part.item].positions, mayWait: work.count == 1, compute: compute, workspace: workspace
          ) { row in
            let first = part.logits + (row - part.rows.lowerBound) * stride
            return LogitRow(UnsafeBufferPointer(start: first, count: vocabulary), compute: compute)
          }
        }
        (records + number).initialize(to: found)
      }
    }
    var results = [[TokenRecord]?](repeating: [], count: work.count)
    for index in work.indices where skipped[index] { results[index] = nil }
    for (part, records) in zip(parts, read) {
      if let records { results[part.item]?.append(contentsOf: records) } else { results[part.item] = nil }
    }
    return results
  }

  /// Adds the pass's hidden states to the sums of the generations that want their mean.
  private func pool(_ work: [Work], _ results: ForwardResults) {
    let size = transformer.base.config.hiddenSize
    var row = 0
    for (index, item) in work.enumerated() {
      let count = item.generation.pooledRows(item.positions).count
      if count > 0, !results.overflowed[index] {
        item.generation.pool(
          UnsafeBufferPointer(start: results.hiddenStates + row * size, count: count * size), size: size)
      }
      row += count
    }
  }

  private func recordPass(
    _ work: [Work], rows: Int, from started: ContinuousClock.Instant, to ended: ContinuousClock.Instant
  ) {
    metrics.update { state in
      recordState(in: &state)
      state.stepSeconds.observe(started.duration(to: ended) / .seconds(1))
      state.batchRows.observe(Double(rows))
      for item in work where item.madeTokens > 0 {
        let generation = item.generation
        state.counts[generation.label].generatedTokens += item.madeTokens
        state.draftTokens += item.drafted
        state.acceptedDraftTokens += item.madeTokens - 1
        if let last = generation.lastToken {
          let seconds = last.duration(to: ended) / .seconds(1) / Double(item.madeTokens)
          for _ in 0..<item.madeTokens { state.interToken.observe(seconds) }
        } else {
          state.timeToFirstToken.observe(generation.admission.time.duration(to: ended) / .seconds(1))
        }
        generation.lastToken = ended
      }
    }
  }
}
