import Foundation
import Kernels
import Logging
public import Model

/// The engine thread: drains the inbox, asks the scheduler, computes, samples, tells the sinks.
///
/// `@unchecked Sendable`: only the inbox is touched from other threads; all else belongs to the engine's own.
public final class Engine: @unchecked Sendable {
  public struct Settings: Sendable {
    /// Most rows of one forward pass.
    public var rowBudget: Int
    public var maxRunning: Int

    public init(rowBudget: Int = 128, maxRunning: Int = 256) {
      self.rowBudget = rowBudget
      self.maxRunning = maxRunning
    }
  }

  private let inbox = EngineInbox()
  private let transformer: Transformer
  private let cache: KeyValueCache
  private let tokenizer: Tokenizer
  private let endTokens: Set<Int32>
  private let samplingWorkspace: SamplingWorkspace
  private var scheduler: Scheduler
  private var generations: [GenerationID: Generation] = [:]
  private let finished = DispatchSemaphore(value: 0)

  public init(transformer: Transformer, cache: KeyValueCache, tokenizer: Tokenizer, settings: Settings = Settings()) {
    self.transformer = transformer
    self.cache = cache
    self.tokenizer = tokenizer
    endTokens = Set(transformer.base.config.eosTokens + tokenizer.eosTokens)
    samplingWorkspace = SamplingWorkspace(vocabularySize: transformer.base.config.vocabularySize)
    let rows = min(settings.rowBudget, transformer.maxRows)
    scheduler = Scheduler(
      limits: .init(rowBudget: rows, running: settings.maxRunning, logitRows: rows),
      blocks: cache.blockCount)
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

  /// Hands a request in. `sink` is called on the engine's thread, or on the caller's if the engine was stopped, and
  /// must not wait for anything.
  public func submit(
    _ request: GenerationRequest, sink: @escaping @Sendable (GenerationEvent) -> Void
  ) -> GenerationID {
    let id = inbox.makeID()
    if !inbox.post(.submit(id, request, sink)) { sink(.failed(.shuttingDown)) }
    return id
  }

  /// Ends a generation without another event, at the next step at the latest.
  public func cancel(_ id: GenerationID) { inbox.post(.cancel(id)) }

  // MARK: the engine's thread

  private func run() {
    while true {
      let idle = generations.isEmpty
      for message in inbox.drain(waiting: idle) {
        switch message {
        case .submit(let id, let request, let sink): admit(id, request, sink)
        case .cancel(let id): remove(id)
        case .stop:
          for generation in generations.values { generation.sink(.failed(.shuttingDown)) }
          generations = [:]
          return
        }
      }
      if case .step(let slices) = scheduler.next() { step(slices) }
    }
  }

  private func admit(
    _ id: GenerationID, _ request: GenerationRequest, _ sink: @escaping @Sendable (GenerationEvent) -> Void
  ) {
    let vocabulary = transformer.base.config.vocabularySize
    if let token = request.prompt.first(where: { $0 < 0 || Int($0) >= vocabulary }) {
      sink(.failed(.noSuchToken(token, vocabulary: vocabulary)))
      return
    }
    let positions = request.prompt.count + request.maxTokens
    guard !request.prompt.isEmpty, positions <= transformer.contextLength else {
      sink(.failed(.exceedsContext(positions: positions, contextLength: transformer.contextLength)))
      return
    }
    let generation = Generation(
      id: id, request: request, tokenizer: tokenizer, endTokens: endTokens, sink: sink)
    guard generation.positionsNeeded <= cache.positionCapacity else {
      sink(.failed(.exceedsCache(positions: generation.positionsNeeded, capacity: cache.positionCapacity)))
      return
    }
    generations[id] = generation
    scheduler.enqueue(
      id, promptLength: request.prompt.count,
      blocks: (generation.positionsNeeded + keyValueBlockLength - 1) / keyValueBlockLength,
      scoresPrompt: request.scoresPrompt)
  }

  private func step(_ slices: [Scheduler.Slice]) {
    let work = slices.compactMap { slice in
      generations[slice.id].map { (generation: $0, positions: slice.positions) }
    }
    let batch = ForwardBatch(
      segments: work.map { generation, positions in
        let fits = cache.extend(&generation.table, to: positions.upperBound)
        precondition(fits, "the scheduler admits only what fits")
        return .init(
          tokens: Array(generation.tokens[positions]), position: positions.lowerBound, table: generation.table,
          adapters: generation.request.adapters, logits: generation.wantedLogits(positions))
      })
    transformer.forward(batch, cache: cache) { logits, ld in
      var row = 0
      for (generation, positions) in work {
        let wanted = generation.wantedLogits(positions).count
        let rows = (row..<row + wanted).map { index in
          LogitRow(
            UnsafeBufferPointer(start: logits + index * ld, count: transformer.base.config.vocabularySize),
            compute: transformer.compute)
        }
        row += wanted
        let isOver = generation.advance(
          positions, rows: rows, compute: transformer.compute, workspace: samplingWorkspace)
        if isOver { remove(generation.id) }
      }
    }
  }

  private func remove(_ id: GenerationID) {
    guard let generation = generations.removeValue(forKey: id) else { return }
    cache.release(&generation.table)
    scheduler.remove(id)
  }
}
