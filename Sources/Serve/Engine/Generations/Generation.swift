import Tokenization
import Kernels
import Model

/// One request's life in the engine, from its submission to its end: its tokens, how far they are computed, its cache
/// blocks, and its client's events.
///
/// Only this type holds these facts; the scheduler reads them. Only the engine's thread uses it, except for `read`,
/// which many threads call at once.
final class Generation: ScheduledSequence {
  let request: GenerationRequest
  let admission: Admission
  let stream: StreamKey
  let group: PromptGroup
  let deadline: Duration?
  /// Sequences with equal keys may share cache blocks.
  let prefixKey: PrefixKey
  /// Equal for equal adapters, so that their rows can be put side by side in a pass.
  let adapterOrder: Int
  /// The index of the request's label in the metrics.
  let label: Int
  /// Whether all requests share cache blocks, or only those of one group.
  private let sharesWithAll: Bool

  /// The prompt and what was generated after it.
  private(set) var tokens: [Int32]
  /// How many of the tokens have their keys and values in `table`.
  private(set) var computed = 0
  /// The cache blocks of the computed tokens. Generation+Cache.swift allocates and releases them.
  var table = BlockTable()
  /// Whether it was preempted. Blocks that it finds in the cache after that are its own, and are not counted as cached
  /// tokens.
  private var wasPreempted = false
  private var hasToldPrompt = false
  /// How many positions of the prompt have given the logprob of the token after them.
  private var scored = 0
  private var promptRecords: [TokenRecord] = []
  /// The sums of the prompt's hidden states so far; `nil` where no mean was requested.
  private var pooled: PooledStates?
  private(set) var usage: GenerationUsage
  private(set) var finishReason: FinishReason?
  /// Whether it ended with an error.
  private(set) var hasFailed = false
  /// When the last token was generated.
  var lastToken: ContinuousClock.Instant?

  private var output: GenerationOutput
  private var sampler: Sampler
  /// Follows the answer through the grammar that the request gives.
  private let constraint: ConstrainedAnswer?
  private let tokenizer: Tokenizer
  private let endTokens: Set<Int32>

  /// - Parameters:
  ///   - deadline: on the scheduler's clock
  ///   - label: the index of the request's label in the metrics
  ///   - sharesWithAll: whether the prefix cache is on
  ///   - endTokens: the end tokens of the model and its tokenizer
  init(
    _ request: GenerationRequest, admission: Admission, group: PromptGroup, deadline: Duration?, sharesWithAll: Bool,
    label: Int, tokenizer: Tokenizer, endTokens: Set<Int32>, sink: @escaping @Sendable (GenerationEvent) -> Void
  ) {
    self.request = request
    self.admission = admission
    stream = group.key.stream
    self.group = group
    self.deadline = deadline
    self.sharesWithAll = sharesWithAll
    prefixKey = sharesWithAll ? stream.adapters : PrefixKey(request.adapters, group: group.id)
    adapterOrder = stream.adapters.hashValue
    self.label = label
    self.tokenizer = tokenizer
    self.endTokens = endTokens.union(request.options.endTokens)
    tokens = request.prompt
    output = GenerationOutput(
      text: OutputText(
        decoder: StreamDecoder(
          tokenizer, skippingSpecialTokens: !request.options.showsSpecialTokens, isContinuation: true),
        stops: request.options.stop, includesStop: request.options.includesStop), sink: sink)
    sampler = Sampler(request.options.sampling, prompt: request.prompt)
    constraint = request.options.constraint.map { [endTokens = self.endTokens] grammar in
      ConstrainedAnswer(grammar, endTokens: endTokens, vocabularySize: tokenizer.vocabularySize)
    }
    usage = GenerationUsage(promptTokens: request.prompt.count)
    pooled = request.options.poolsPrompt ? PooledStates() : nil
  }

  // MARK: what the scheduler reads

  var id: GenerationID { admission.id }
  var groupID: UInt64? { group.id }
  var promptLength: Int { request.prompt.count }
  var scoresPrompt: Bool { request.options.scoresPrompt }
  var length: Int { tokens.count }
  var blockCount: Int { table.blocks.count }

  func reusableTokens(from other: Generation) -> Int {
    guard sharesPrefix, other.sharesPrefix, prefixKey == other.prefixKey else { return 0 }
    let maximum = min(tokens.count, other.tokens.count)
    let common = (0..<maximum).first { tokens[$0] != other.tokens[$0] } ?? maximum
    return min(cacheLimit, common)
  }

  // MARK: the cache

  /// Whether others may hold the same cache blocks.
  var sharesPrefix: Bool { sharesWithAll || group.isShared }

  /// The maximum number of positions that may come from the cache. The logits of the next position are needed, so it
  /// must be computed.
  var cacheLimit: Int { isScoring ? scored : min(tokens.count - 1, pooled?.count ?? .max) }

  /// Records that `table` now has this many positions; those beyond `computed` came from the cache.
  func shared(_ positions: Int) {
    if !wasPreempted { usage.cachedTokens += positions - computed }
    computed = positions
  }

  /// Records that its blocks were released before its end.
  func preempted() {
    computed = 0
    wasPreempted = true
  }

  /// Takes over the prompt's logprobs or hidden states from a member of its group that has computed them.
  func usePromptResults(of group: PromptGroup) {
    if let sums = group.pooled { pooled = sums }
    guard let records = group.records, isScoring, scored == 0 else { return }
    promptRecords = records
    scored = lastScored
  }

  // MARK: a pass

  private var lastScored: Int { request.prompt.count - 1 }
  private var isScoring: Bool { request.options.scoresPrompt && scored < lastScored }

  /// The positions whose logits are needed, as indices into the range.
  func neededLogits(_ positions: Range<Int>) -> Range<Int> {
    let first = isScoring ? scored : tokens.count - 1
    let end = request.options.maxTokens == 0 ? lastScored : tokens.count
    let upper = min(end, positions.upperBound) - positions.lowerBound
    let lower = max(first, positions.lowerBound) - positions.lowerBound
    return lower < upper ? lower..<upper : 0..<0
  }

  /// The positions whose hidden states are added to the mean, as indices into the range.
  func pooledRows(_ positions: Range<Int>) -> Range<Int> {
    guard let pooled, pooled.count < positions.upperBound else { return 0..<0 }
    return max(pooled.count - positions.lowerBound, 0)..<positions.count
  }

  /// Adds the hidden states of `pooledRows`.
  /// - Parameters:
  ///   - states: [rows][size]
  ///   - size: the model's hidden size
  func pool(_ states: UnsafeBufferPointer<Float>, size: Int) { pooled?.add(states, size: size) }

  /// The token after a position: sampled if it is not known yet, with its logprobs if they were requested. Changes
  /// nothing, so several threads can read rows at once.
  func read(_ row: LogitRow, at position: Int, compute: Compute, workspace: SamplingWorkspace) -> TokenRecord {
    let next = position + 1
    let token = next < tokens.count ? tokens[next] : draw(row, compute, workspace)
    var record = record(token)
    if let count = request.options.topLogprobs {
      let sum = row.logSumExp
      record.logprob = row.logprob(token, logSumExp: sum).logprob
      record.top = row.top(count, logSumExp: sum)
    }
    return record
  }

  /// Without a mask although there is a constraint, the token is never shown: `accept` ends the generation.
  private func draw(_ row: LogitRow, _ compute: Compute, _ workspace: SamplingWorkspace) -> Int32 {
    sampler.draw(
      row, index: usage.completionTokens, mask: constraint?.mask(), compute: compute, workspace: workspace)
  }

  /// Records the results of a pass.
  /// - Parameter records: the results of `read` for each of `neededLogits(positions)`
  /// - Returns: whether the generation has ended
  func advance(over positions: Range<Int>, records: [TokenRecord]) -> Bool {
    if isScoring { scorePrompt(records) }
    computed = positions.upperBound
    if !hasToldPrompt, computed >= request.prompt.count {
      hasToldPrompt = true
      tellPrompt()
      tellPooled()
      if request.options.maxTokens == 0 { return end(.length) }
    }
    guard computed == tokens.count, let record = records.last else { return false }
    return accept(record)
  }

  private func scorePrompt(_ records: [TokenRecord]) {
    if scored == 0, promptRecords.isEmpty { promptRecords.append(record(request.prompt[0])) }
    let new = records.prefix(lastScored - scored)
    promptRecords += new
    scored += new.count
  }

  private func tellPrompt() {
    guard request.options.echoesPrompt else { return }
    if promptRecords.isEmpty { promptRecords = request.prompt.map(record) }
    if request.options.scoresPrompt, group.isShared { group.records = promptRecords }
    output.add(.prompt(promptRecords))
    promptRecords = []
  }

  private func tellPooled() {
    guard let pooled else { return }
    if group.isShared { group.pooled = pooled }
    output.add(.pooled(pooled.mean))
  }

  private func accept(_ record: TokenRecord) -> Bool {
    if let failure = constraint?.failure {
      fail(.constraintFailed(failure))
      return true
    }
    sampler.accept(record.token)
    tokens.append(record.token)
    usage.completionTokens += 1
    // Where an answer follows a grammar, an end token only comes where the text is complete.
    if endTokens.contains(record.token), !request.options.ignoresEndOfText || constraint != nil {
      if request.options.includesStop { _ = output.push(record) }
      return end(.stop)
    }
    constraint?.accept(record.token)
    if output.push(record) || constraint?.isFinished == true { return end(.stop) }
    return usage.completionTokens == request.options.maxTokens ? end(.length) : false
  }

  private func record(_ token: Int32) -> TokenRecord {
    TokenRecord(token: token, bytes: tokenizer.tokenBytes(token) ?? [], logprob: nil, top: [])
  }

  // MARK: the end

  /// Ends the generation at its deadline: with the tokens that it has, or with an error if it has none.
  func expire() {
    if usage.completionTokens > 0 { _ = end(.length) } else { fail(.timedOut) }
  }

  func fail(_ error: EngineError) {
    hasFailed = true
    output.add(.failed(error))
  }

  private func end(_ reason: FinishReason) -> Bool {
    finishReason = reason
    output.finish(reason, usage)
    return true
  }

  /// Sends the events since the last call.
  func sendEvents() { output.send() }
}
