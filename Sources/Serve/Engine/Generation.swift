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

  /// What the logits at a position say: the token after it, drawn where none is known yet, and its logprobs if they
  /// were asked for. Changes nothing, so rows are read on many threads at once.
  func read(_ row: LogitRow, at position: Int, compute: Compute, workspace: SamplingWorkspace) -> TokenRecord {
    let next = position + 1
    let token =
      next < tokens.count
      ? tokens[next] : sampler.draw(row, index: usage.completionTokens, compute: compute, workspace: workspace)
    var record = record(token)
    if let count = request.topLogprobs {
      let sum = row.logSumExp
      record.logprob = row.logprob(token, logSumExp: sum).logprob
      record.top = row.top(count, logSumExp: sum)
    }
    return record
  }

  /// Takes in what a pass has computed; returns true when the generation has ended.
  /// - Parameter records: what was read at each of `wantedLogits(positions)`
  func advance(_ positions: Range<Int>, records: ArraySlice<TokenRecord>) -> Bool {
    if isScoring { scorePrompt(records) }
    computed = positions.upperBound
    if !isPromptComputed, computed >= request.prompt.count {
      isPromptComputed = true
      tellPrompt()
      if request.maxTokens == 0 { return end(.length) }
    }
    guard computed == tokens.count, let record = records.last else { return false }
    return accept(record)
  }

  private func scorePrompt(_ records: ArraySlice<TokenRecord>) {
    if scored == 0, promptRecords.isEmpty { promptRecords.append(record(request.prompt[0])) }
    let new = records.prefix(lastScored - scored)
    promptRecords += new
    scored += new.count
  }

  private func tellPrompt() {
    guard request.echoesPrompt else { return }
    if promptRecords.isEmpty { promptRecords = request.prompt.map(record) }
    if request.scoresPrompt, group.isShared { group.records = promptRecords }
    events.append(.prompt(promptRecords))
    promptRecords = []
  }

  private func accept(_ record: TokenRecord) -> Bool {
    sampler.accept(record.token)
    tokens.append(record.token)
    usage.completionTokens += 1
    if endTokens.contains(record.token), !request.ignoresEndOfText { return end(.stop) }
    let shown = output.push(record)
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

  private func record(_ token: Int32) -> TokenRecord {
    TokenRecord(token: token, bytes: tokenizer.tokenBytes(token) ?? [], logprob: nil, top: [])
  }
}
