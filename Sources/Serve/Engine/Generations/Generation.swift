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
  /// `length` until the reason is known, where a grammar takes long.
  private(set) var finishReason: FinishReason?
  /// Whether it ended with an error.
  private(set) var hasFailed = false
  /// When the last token was generated.
  var lastToken: ContinuousClock.Instant?

  private var output: GenerationOutput
  private var sampler: Sampler
  /// Proposes tokens that a pass may compute early; `nil` where speculation is off.
  private var speculator: Speculator?
  /// Follows the answer through the grammar that the request gives.
  private let constraint: ConstrainedAnswer?
  private let tokenizer: Tokenizer
  private let modelVocabularySize: Int
  private let endTokens: Set<Int32>

  /// - Parameters:
  ///   - deadline: on the scheduler's clock
  ///   - label: the index of the request's label in the metrics
  ///   - sharesWithAll: whether the prefix cache is on
  ///   - speculates: whether tokens that may come next are computed early
  ///   - grammarWork: how the work of its grammar is done
  ///   - modelVocabularySize: how many tokens the model has embeddings of; the tokenizer may have more
  ///   - endTokens: the end tokens of the model and its tokenizer
  init(
    _ request: GenerationRequest, admission: Admission, group: PromptGroup, deadline: Duration?, sharesWithAll: Bool,
    speculates: Bool, grammarWork: GrammarWork, label: Int, tokenizer: Tokenizer, modelVocabularySize: Int,
    endTokens: Set<Int32>,
    sink: @escaping @Sendable (GenerationEvent) -> Void
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
    self.modelVocabularySize = modelVocabularySize
    self.endTokens = endTokens.union(request.options.endTokens)
    tokens = request.prompt
    output = GenerationOutput(
      text: OutputText(
        decoder: StreamDecoder(
          tokenizer, skippingSpecialTokens: !request.options.showsSpecialTokens, showing: request.options.shownTokens,
          isContinuation: true),
        stops: request.options.stop, includesStop: request.options.includesStop,
        minimumTokens: request.options.sampling.minimumTokens), sink: sink)
    var sampling = request.options.sampling
    if !request.options.ignoresEndOfText || request.options.constraint != nil { sampling.endTokens = self.endTokens }
    sampler = Sampler(sampling, prompt: request.prompt)
    speculator = speculates && request.options.maxTokens > 1 ? Speculator() : nil
    constraint = request.options.constraint.map { [endTokens = self.endTokens] grammar in
      ConstrainedAnswer(
        grammar, endTokens: endTokens, vocabularySize: tokenizer.vocabularySize, work: grammarWork,
        client: admission.client)
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
  var draftLength: Int { speculator?.draft?.tokens.count ?? 0 }
  var draftRate: Double { speculator?.rate ?? 0 }

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
    speculator?.discard()
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

  /// How many of the positions are those of the draft.
  func draftedCount(_ positions: Range<Int>) -> Int { max(positions.upperBound - tokens.count, 0) }

  /// The tokens of the positions.
  func inputs(_ positions: Range<Int>) -> [Int32] {
    let drafted = speculator?.draft?.tokens.prefix(draftedCount(positions)) ?? []
    return Array(tokens[positions.lowerBound..<min(positions.upperBound, tokens.count)]) + drafted
  }

  /// The positions whose logits are needed, as indices into the range.
  func neededLogits(_ positions: Range<Int>) -> Range<Int> {
    let first = isScoring ? scored : tokens.count - 1
    let end = request.options.maxTokens == 0 ? lastScored : max(tokens.count, positions.upperBound)
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

  /// The ranges of `needed` whose rows are read by one thread after another: every row that only scores the prompt on its
  /// own, and the rows of a draft together.
  func readingRanges(_ needed: Range<Int>, of positions: Range<Int>) -> [Range<Int>] {
    draftedCount(positions) > 0 ? [needed] : needed.map { $0..<$0 + 1 }
  }

  /// The tokens after positions, each sampled if it is not known yet, with its logprobs if they were requested. Where a draft
  /// turns out wrong, the rows after that are not read. Changes nothing, so several threads can read ranges at once.
  /// - Parameters:
  ///   - range: one of `readingRanges`
  ///   - mayWait: whether it may take as much time as the grammar needs
  ///   - row: the logits of an index in `range`
  /// - Returns: none if the grammar is finished or not ready; `nil` if the first row is not finite
  func read(
    _ range: Range<Int>, of positions: Range<Int>, mayWait: Bool, compute: Compute, workspace: SamplingWorkspace,
    row: (Int) -> LogitRow
  ) -> [TokenRecord]? {
    let inputs = draftedCount(positions) > 0 ? inputs(positions) : []
    var records: [TokenRecord] = []
    var (sampler, constraint) = (sampler, constraint)
    for index in range {
      let logits = row(index)
      // If a row of a draft is not finite, the next pass computes it again as the first.
      guard logits.isFinite else { return records.isEmpty ? nil : records }
      let next = positions.lowerBound + index + 1
      let token: Int32
      if next < tokens.count {
        token = tokens[next]
      } else {
        let mask = constraint?.mask(mayWait: mayWait && records.isEmpty)
        if let constraint, mask == nil {
          // After a failure the token is never shown: `accept` ends the generation.
          if constraint.failure == nil || !records.isEmpty { return records }
        }
        token = sampler.draw(
          logits, index: usage.completionTokens + records.count, mask: mask, compute: compute, workspace: workspace)
      }
      records.append(record(token, logits, isPrompt: next < request.prompt.count))
      guard index + 1 < range.upperBound, inputs[index + 1] == token else { break }
      sampler.accept(token)
      if let before = constraint {
        let after = before.copy()
        after.accept(token)
        if after.failure != nil || after.isFinished || after.isBehind { break }
        constraint = after
      }
    }
    return records
  }

  /// A token with its logprobs if they were requested.
  private func record(_ token: Int32, _ row: LogitRow, isPrompt: Bool) -> TokenRecord {
    var record = record(token)
    let options = request.options
    if let count = isPrompt && options.scoresPrompt ? options.promptAlternatives : options.topLogprobs {
      let sum = row.logSumExp
      record.logprob = row.logprob(token, logSumExp: sum).logprob
      record.top = row.top(count, logSumExp: sum)
    }
    if isPrompt, options.promptLogprobs != nil { record.rank = Int32(row.rank(token)) }
    return record
  }

  /// Records the results of a pass.
  /// - Parameter records: the results of `read`, for all ranges of `neededLogits(positions)`
  /// - Returns: whether the generation has ended
  func advance(over positions: Range<Int>, records: [TokenRecord]) -> Bool {
    constraint?.renewPatience()
    if isScoring { scorePrompt(records) }
    let drafted = draftedCount(positions)
    computed = positions.upperBound - drafted
    if !hasToldPrompt, computed >= request.prompt.count {
      hasToldPrompt = true
      tellPrompt()
      tellPooled()
      if request.options.maxTokens == 0 { return end(.length) }
    }
    guard computed == tokens.count else { return false }
    if let constraint, constraint.failure == nil {
      if constraint.isFinished { return end(.stop) }
      if constraint.isWaiting {
        // The last position is computed again, for its logits.
        computed -= 1
        speculator?.discard()
        return false
      }
    }
    guard let last = records.last else { return false }
    let drawn = drafted > 0 ? records : [last]
    for (index, record) in drawn.enumerated() {
      // A token after the first was drawn from the row of the right token before it.
      if index > 0 { computed += 1 }
      if accept(record) { return true }
    }
    speculate(accepted: drawn.count - 1, of: drafted)
    return false
  }

  /// Makes the draft of the next pass.
  /// - Parameters:
  ///   - accepted: how many tokens of the last draft were right
  ///   - drafted: how many of its tokens were computed
  private func speculate(accepted: Int, of drafted: Int) {
    speculator?.record(accepted: accepted, of: drafted)
    // The token after the draft is one of the answer, too.
    let limit = request.options.maxTokens - usage.completionTokens - 1
    speculator?.propose(after: tokens, limit: limit, constraint: constraint) { [endTokens, modelVocabularySize] in
      endTokens.contains($0) || $0 >= modelVocabularySize
    }
  }

  /// Takes back the draft, whose numbers could not be computed. The next pass computes the next token alone.
  func discardDraft() { speculator?.discard() }

  private func scorePrompt(_ records: [TokenRecord]) {
    if scored == 0, promptRecords.isEmpty { promptRecords.append(record(request.prompt[0])) }
    let new = records.prefix(lastScored - scored)
    promptRecords += new
    scored += new.count
  }

  private func tellPrompt() {
    guard request.options.echoesPrompt || request.options.scoresPrompt else { return }
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
      fail(failure.error)
      return true
    }
    sampler.accept(record.token)
    tokens.append(record.token)
    usage.completionTokens += 1
    // Where an answer follows a grammar, an end token only comes where the text is complete.
    if endTokens.contains(record.token), !request.options.ignoresEndOfText || constraint != nil {
      if request.options.includesStop {
        _ = output.push(record)
        return end(.stop)
      }
      // Clients that score texts count the tokens from both ends of the list.
      return end(.stop, hiddenToken: request.options.echoesLogprobs ? record : nil)
    }
    constraint?.accept(record.token)
    if output.push(record) || constraint?.isFinished == true { return end(.stop) }
    guard usage.completionTokens == request.options.maxTokens else { return false }
    guard let constraint, constraint.isBehind else { return end(.length) }
    // Only the reason depends on the grammar, so the pass does not wait for it.
    finishReason = .length
    output.finish(usage) { [constraint] found in constraint.settle { found($0 ? .stop : .length) } }
    return true
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

  /// - Parameter hiddenToken: the end token, if it is reported although its text is not shown
  private func end(_ reason: FinishReason, hiddenToken: TokenRecord? = nil) -> Bool {
    finishReason = reason
    output.finish(reason, usage, hiddenToken: hiddenToken)
    return true
  }

  /// Sends the events since the last call.
  func sendEvents() { output.send() }
}
