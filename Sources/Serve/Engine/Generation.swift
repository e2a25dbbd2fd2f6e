import Kernels
import Model

/// One request's state from submission to end; the engine thread's alone.
final class Generation {
  let id: GenerationID
  let request: GenerationRequest
  /// Under which keys and values may be shared with it.
  let prefixKey: PrefixKey
  let group: PromptGroup
  /// The same for the same adapters, so that their rows can be put side by side.
  let adapterOrder: Int
  let submitted: ContinuousClock.Instant
  /// Where the metrics count it.
  let label: Int
  var table = BlockTable()
  /// The prompt and what was generated after it.
  private(set) var tokens: [Int32]
  /// Of the tokens, those whose keys and values are in `table`.
  private(set) var computed = 0
  private(set) var isPromptComputed = false
  /// Whether it has ever been admitted.
  private(set) var hasStarted = false
  /// What it takes over from the cache was its own.
  private var wasPreempted = false
  private(set) var finishReason: FinishReason?
  private(set) var usage: GenerationUsage
  /// When the last token was made.
  var lastToken: ContinuousClock.Instant?

  private let sink: @Sendable (GenerationEvent) -> Void
  /// What the sink will be told when the pass is done.
  private var events: [GenerationEvent] = []
  private var output: OutputText
  private var sampler: Sampler
  private let tokenizer: Tokenizer
  private let endTokens: Set<Int32>
  private var promptRecords: [TokenRecord] = []
  /// Positions of the prompt whose logits have told their next token's logprob.
  private var scored = 0

  init(
    _ submission: EngineInbox.Submission, prefixKey: PrefixKey, group: PromptGroup, label: Int, tokenizer: Tokenizer,
    endTokens: Set<Int32>
  ) {
    id = submission.id
    request = submission.request
    sink = submission.sink
    submitted = submission.time
    self.prefixKey = prefixKey
    self.group = group
    adapterOrder = group.key.stream.adapters.hashValue
    self.label = label
    self.tokenizer = tokenizer
    self.endTokens = endTokens.union(request.endTokens)
    tokens = request.prompt
    output = OutputText(decoder: StreamDecoder(tokenizer, isContinuation: true), stops: request.stop)
    sampler = Sampler(request.sampling, prompt: request.prompt)
    usage = GenerationUsage(promptTokens: request.prompt.count)
  }

  // MARK: the cache

  private var lastScored: Int { request.prompt.count - 1 }
  private var isScoring: Bool { request.scoresPrompt && scored < lastScored }

  /// Most positions that can come from the cache: from here on logits are wanted.
  var cacheLimit: Int { isScoring ? scored : tokens.count - 1 }

  /// How many tokens both begin with.
  func commonTokens(with other: Generation) -> Int {
    let most = min(tokens.count, other.tokens.count)
    return (0..<most).first { tokens[$0] != other.tokens[$0] } ?? most
  }

  /// It begins, or begins again after it was preempted.
  func start() { hasStarted = true }

  /// So many positions are in `table` now, some of them from the cache.
  func takeOver(_ positions: Int) {
    if !wasPreempted { usage.cachedTokens += positions - computed }
    computed = positions
  }

  /// Its blocks are gone.
  func loseCache() {
    computed = 0
    wasPreempted = true
  }

  /// Takes over what another of its group has found about their prompt.
  func adopt(_ records: [TokenRecord]) {
    guard isScoring, scored == 0 else { return }
    promptRecords = records
    scored = lastScored
  }

  // MARK: a pass

  /// Which of these positions' logits are wanted, as indices into the range.
  func wantedLogits(_ positions: Range<Int>) -> Range<Int> {
    let first = isScoring ? scored : tokens.count - 1
    let end = request.maxTokens == 0 ? lastScored : tokens.count
    let upper = min(end, positions.upperBound) - positions.lowerBound
    let lower = max(first, positions.lowerBound) - positions.lowerBound
    return lower < upper ? lower..<upper : 0..<0
  }

  /// Takes in a pass's logits; returns true when the generation has ended.
  /// - Parameters:
  ///   - rows: one for each of `wantedLogits(positions)`
  ///   - workspace: the engine's, for sampling
  func advance(_ positions: Range<Int>, rows: [LogitRow], compute: Compute, workspace: SamplingWorkspace) -> Bool {
    if isScoring { scorePrompt(positions, rows) }
    computed = positions.upperBound
    if !isPromptComputed, computed >= request.prompt.count {
      isPromptComputed = true
      tellPrompt()
      if request.maxTokens == 0 { return end(.length) }
    }
    guard computed == tokens.count, let row = rows.last else { return false }
    return generate(row, compute, workspace)
  }

  private func scorePrompt(_ positions: Range<Int>, _ rows: [LogitRow]) {
    if scored == 0, promptRecords.isEmpty { promptRecords.append(record(request.prompt[0], nil)) }
    for row in rows where scored < lastScored {
      promptRecords.append(record(request.prompt[scored + 1], row))
      scored += 1
    }
  }

  private func tellPrompt() {
    guard request.echoesPrompt else { return }
    if promptRecords.isEmpty { promptRecords = request.prompt.map { record($0, nil) } }
    if request.scoresPrompt, group.isShared { group.records = promptRecords }
    events.append(.prompt(promptRecords))
    promptRecords = []
  }

  private func generate(_ row: LogitRow, _ compute: Compute, _ workspace: SamplingWorkspace) -> Bool {
    let token = sampler.draw(row, index: usage.completionTokens, compute: compute, workspace: workspace)
    tokens.append(token)
    usage.completionTokens += 1
    if endTokens.contains(token), !request.ignoresEndOfText { return end(.stop) }
    let shown = output.push(record(token, row))
    emit(shown)
    if output.isStopped { return end(.stop) }
    return usage.completionTokens == request.maxTokens ? end(.length) : false
  }

  // MARK: the end

  /// Its time is over: what there is of an answer is the answer, and without any it has failed.
  func expire() {
    if usage.completionTokens > 0 { _ = end(.length) } else { fail(.timedOut) }
  }

  func fail(_ error: EngineError) { events.append(.failed(error)) }

  private func end(_ reason: FinishReason) -> Bool {
    emit(output.finish())
    finishReason = reason
    events.append(.finished(reason, usage))
    return true
  }

  /// Tells the sink what has happened.
  func flush() {
    for event in events { sink(event) }
    events.removeAll(keepingCapacity: true)
  }

  private func emit(_ shown: (text: String, tokens: [TokenRecord])) {
    if !shown.text.isEmpty || !shown.tokens.isEmpty {
      events.append(.output(text: shown.text, tokens: shown.tokens))
    }
  }

  private func record(_ token: Int32, _ row: LogitRow?) -> TokenRecord {
    var record = TokenRecord(token: token, bytes: tokenizer.tokenBytes(token) ?? [], logprob: nil, top: [])
    if let row, let count = request.topLogprobs {
      let sum = row.logSumExp
      record.logprob = row.logprob(token, logSumExp: sum).logprob
      record.top = row.top(count, logSumExp: sum)
    }
    return record
  }
}
