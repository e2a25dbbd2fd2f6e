import Kernels
import Model

/// One request's state from submission to end; the engine thread's alone.
final class Generation {
  let id: GenerationID
  let request: GenerationRequest
  let sink: @Sendable (GenerationEvent) -> Void
  var table = BlockTable()
  /// The prompt and what was generated after it.
  private(set) var tokens: [Int32]
  private var output: OutputText
  private var sampler: Sampler
  private let tokenizer: Tokenizer
  private let endTokens: Set<Int32>
  private var promptRecords: [TokenRecord] = []
  private var usage: GenerationUsage

  init(
    id: GenerationID, request: GenerationRequest, tokenizer: Tokenizer, endTokens: Set<Int32>,
    sink: @escaping @Sendable (GenerationEvent) -> Void
  ) {
    self.id = id
    self.request = request
    self.sink = sink
    self.tokenizer = tokenizer
    self.endTokens = endTokens.union(request.endTokens)
    tokens = request.prompt
    output = OutputText(decoder: StreamDecoder(tokenizer, isContinuation: true), stops: request.stop)
    sampler = Sampler(request.sampling, prompt: request.prompt)
    usage = GenerationUsage(promptTokens: request.prompt.count)
  }

  /// Positions whose keys and values it may come to need: the last token's are never computed.
  var positionsNeeded: Int { request.prompt.count + max(request.maxTokens - 1, 0) }

  /// Which of these positions' logits are wanted, as indices into the range.
  func wantedLogits(_ positions: Range<Int>) -> Range<Int> {
    if request.scoresPrompt, positions.lowerBound < request.prompt.count { return 0..<positions.count }
    let last = request.prompt.count - 1
    if positions.upperBound <= last { return 0..<0 }
    return request.maxTokens == 0 ? 0..<0 : positions.count - 1..<positions.count
  }

  /// Takes in a pass's logits; returns true when the generation has ended.
  /// - Parameters:
  ///   - rows: one for each of `wantedLogits(positions)`
  ///   - workspace: the engine's, for sampling
  func advance(_ positions: Range<Int>, rows: [LogitRow], compute: Compute, workspace: SamplingWorkspace) -> Bool {
    let promptLength = request.prompt.count
    if positions.lowerBound < promptLength {
      scorePrompt(positions, rows)
      guard positions.upperBound == promptLength else { return false }
      if request.echoesPrompt { sink(.prompt(promptRecords)) }
      if request.maxTokens == 0 { return end(.length) }
    }
    guard let row = rows.last else { return false }
    return generate(row, compute, workspace)
  }

  private func scorePrompt(_ positions: Range<Int>, _ rows: [LogitRow]) {
    guard request.echoesPrompt else { return }
    if positions.lowerBound == 0 { promptRecords.append(record(request.prompt[0], nil)) }
    for (offset, position) in positions.enumerated() where position + 1 < request.prompt.count {
      promptRecords.append(record(request.prompt[position + 1], offset < rows.count ? rows[offset] : nil))
    }
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

  private func end(_ reason: FinishReason) -> Bool {
    emit(output.finish())
    sink(.finished(reason, usage))
    return true
  }

  private func emit(_ shown: (text: String, tokens: [TokenRecord])) {
    if !shown.text.isEmpty || !shown.tokens.isEmpty { sink(.output(text: shown.text, tokens: shown.tokens)) }
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
