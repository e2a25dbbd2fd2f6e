import Formats
import Kernels
import Model
import Tokenization

/// The work of the engine's thread: it reads the inbox, asks the scheduler, computes, samples, and sends events.
///
/// One iteration is `run` → `act` → `step`. EngineLoop+Requests.swift has what happens to a request, EngineLoop+Pass.swift a
/// forward pass.
final class EngineLoop {
  let inbox: EngineInbox
  let admissions: AdmissionControl
  let metrics: EngineMetrics
  let lease: ComputeLease
  let transformer: Transformer
  let cache: KeyValueCache
  let tokenizer: Tokenizer
  /// The end tokens of the model and its tokenizer.
  let endTokens: Set<Int32>
  let samplingWorkspaces: SamplingWorkspaces
  /// Whether requests of all clients share cache blocks, or only those of one group.
  let cachesPrefixes: Bool
  /// Whether tokens that may come next are computed early.
  let speculates: Bool
  let grammarWork: GrammarWork
  var scheduler: Scheduler<Generation>
  /// Groups whose prompt is not complete yet.
  var groups: [PromptGroup.Key: PromptGroup] = [:]
  var groupCount: UInt64 = 0
  /// Time zero of the scheduler's clock.
  let epoch = ContinuousClock.now
  /// The time on the scheduler's clock.
  var now: Duration { epoch.duration(to: .now) }

  init(
    inbox: EngineInbox, admissions: AdmissionControl, metrics: EngineMetrics, lease: ComputeLease,
    transformer: Transformer, cache: KeyValueCache, tokenizer: Tokenizer, settings: Engine.Settings
  ) {
    self.inbox = inbox
    self.admissions = admissions
    self.metrics = metrics
    self.lease = lease
    self.transformer = transformer
    self.cache = cache
    self.tokenizer = tokenizer
    endTokens = Set(transformer.base.config.eosTokens + tokenizer.eosTokens)
    samplingWorkspaces = SamplingWorkspaces(vocabularySize: transformer.base.config.vocabularySize)
    cachesPrefixes = settings.cachesPrefixes
    speculates = settings.speculates
    grammarWork = GrammarWork(patience: settings.grammarPatience)
    let rows = max(min(settings.rowBudget, transformer.maxRows), 1)
    scheduler = Scheduler(
      limits: .init(
        rowBudget: rows, running: max(settings.maxRunning, 1), logitRows: rows, stepTarget: settings.stepTarget,
        backgroundShare: settings.batchShare))
  }

  /// Serves until the inbox is closed.
  func run() {
    while true {
      if scheduler.isEmpty { lease.servingPauses() }
      for message in inbox.drain(waiting: scheduler.isEmpty) {
        switch message {
        case .submit(let request, let admission, let sink): enqueue(request, admission, sink: sink)
        case .cancel(let id): remove(id, as: .cancelled)
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

  /// Does what the scheduler decides, until a pass was computed or nothing is to be done.
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
      case .idle: return metrics.update { recordState(in: &$0) }
      }
    }
  }

  /// Copies the state between two passes to the metrics.
  func recordState(in state: inout EngineMetrics.State) {
    state.running = scheduler.runningCount
    state.record(cache)
  }
}
