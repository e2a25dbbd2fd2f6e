import Tokenization
import Formats
import Foundation
import Model

/// Answers one request for text: submits its choices to the engine, collects their events, and gives them to the writer of
/// its route. Used on the target's loop only.
final class AnswerRun {
  /// A choice that is being generated. With `best_of`, only the best candidates become choices of the answer.
  private struct Candidate {
    var answer = AnswerContent()
    /// Finds tool calls in the text.
    var parser: ToolCallStream?
    /// Writes log-probabilities for a writer that takes parts.
    var parts: any LogprobsWriter
    /// Those that are written at the end.
    var logprobs: ChoiceLogprobs
    var hasOpened = false
    var reason: FinishReason?
    /// The sum over the tokens that were shown, for `best_of`.
    var logprobSum = 0.0
    var tokenCount = 0

    /// An empty answer is chosen only if all are empty.
    var meanLogprob: Double { tokenCount == 0 ? -.infinity : logprobSum / Double(tokenCount) }
  }

  /// A prompt that is being shown.
  private struct Echo {
    var candidate: Int
    /// What was not shown yet.
    var records: ArraySlice<TokenRecord>
    var decoder: StreamDecoder
  }

  /// How many tokens of a prompt are shown in one turn of the loop. With their log-probabilities these take about a
  /// millisecond.
  private static let echoedAtOnce = 64

  private let target: any AnswerTarget
  private let engine: Engine
  private let tokenizer: Tokenizer
  private let request: AnswerRequest
  private let writer: any AnswerWriter
  private var echo: Echo?
  /// The events that came while a prompt was being shown.
  private var waiting: [(event: GenerationEvent, candidate: Int)] = []
  /// The engine's ids of the candidates.
  private var generations: [GenerationID] = []
  private var candidates: [Candidate]
  private var usage = GenerationUsage()
  private var isOver = false

  init(
    _ request: AnswerRequest, model: String, fingerprint: String, target: any AnswerTarget, context: ServerContext
  ) {
    self.request = request
    self.target = target
    engine = context.engine
    tokenizer = context.tokenizer
    let shape = request.shape
    writer = shape.makeWriter(
      AnswerFrame(
        id: shape.idPrefix + UUID().uuidString.lowercased().filter { $0 != "-" },
        created: Int(Date().timeIntervalSince1970), model: model, fingerprint: fingerprint, stream: request.stream,
        includeUsage: request.includeUsage), to: target, encoding: context.encoding)
    candidates = (0..<request.candidateCount).map { _ in
      Candidate(
        parser: shape.makeParser(), parts: shape.makeLogprobs(context.tokenizer),
        logprobs: ChoiceLogprobs(request, context.tokenizer))
    }
  }

  /// Submits the request. It is cancelled when the client leaves.
  /// - Parameters:
  ///   - admissions: one for each candidate
  ///   - label: what the metrics call the adapters
  func start(adapters: AdapterSet, admissions: [Admission], label: String) {
    target.onClose { [self] in cancel() }
    generations = admissions.map(\.id)
    let requests = candidates.indices.map { index in
      var options = request.options
      options.sampling.seed &+= UInt64(index % request.candidatesPerPrompt)
      return GenerationRequest(
        prompt: request.prompts[promptIndex(of: index)], adapters: adapters, options: options, label: label)
    }
    let (loop, run) = (target.loop, LoopBound(self, on: target.loop))
    engine.submit(requests, admissions: admissions) { index, event in
      loop.execute { run.value.receive(event, of: index) }
    }
  }

  private func promptIndex(of candidate: Int) -> Int { candidate / request.candidatesPerPrompt }

  private func cancel() {
    isOver = true
    for (candidate, generation) in zip(candidates, generations) where candidate.reason == nil {
      engine.cancel(generation)
    }
  }

  private func receive(_ event: GenerationEvent, of index: Int) {
    guard !isOver else { return }
    guard echo == nil else { return waiting.append((event, index)) }
    if case .failed(let error) = event { return fail(error.apiError) }
    open(index)
    switch event {
    case .prompt(let records):
      if !writer.takesParts { candidates[index].logprobs.prompt = records }
      guard request.options.echoesPrompt else { break }
      echo = Echo(
        candidate: index, records: records[...], decoder: StreamDecoder(tokenizer, skippingSpecialTokens: false))
      showEcho()
    case .output(let text, let tokens): show(text, tokens, of: index)
    case .finished(let reason, let usage): finish(index, reason: reason, usage: usage)
    case .pooled, .failed: break
    }
  }

  /// Tells the writer of a candidate's first event. The status is only decided now, so a request that fails before its
  /// first event is answered with an error status, unless it has waited so long that a stream had to begin.
  private func open(_ index: Int) {
    guard !candidates[index].hasOpened else { return }
    candidates[index].hasOpened = true
    writer.open(index)
  }

  /// Shows the next tokens of the prompt that is echoed. The others have their turn behind what else the loop has to do.
  private func showEcho() {
    guard !isOver, var current = echo else { return }
    let tokens = Array(current.records.prefix(Self.echoedAtOnce))
    current.records = current.records.dropFirst(tokens.count)
    let isLast = current.records.isEmpty
    var text = ""
    for token in tokens { text += current.decoder.push(token.token) }
    if isLast { text += current.decoder.finish() }
    echo = isLast ? nil : current
    show(text, tokens, of: current.candidate, isPrompt: true)
    guard isLast else {
      let run = LoopBound(self, on: target.loop)
      return target.loop.execute { run.value.showEcho() }
    }
    let events = waiting
    waiting = []
    // One of them may begin another echo, which the others wait for.
    for (event, index) in events { receive(event, of: index) }
  }

  /// Adds text and the tokens that end in it to a candidate.
  private func show(_ text: String, _ tokens: [TokenRecord], of index: Int, isPrompt: Bool = false) {
    if request.showsLogprobs {
      if writer.takesParts {
        let shown = isPrompt ? candidates[index].logprobs.shown(tokens) : tokens
        candidates[index].parts.append(shown, isPrompt: isPrompt)
      } else if !isPrompt {
        candidates[index].logprobs.answer += tokens
      }
    }
    if !isPrompt {
      for token in tokens {
        candidates[index].logprobSum += Double(token.logprob ?? 0)
        candidates[index].tokenCount += 1
      }
    }
    let parsed = candidates[index].parser?.push(text) ?? (text, [])
    add(parsed, to: index, hasTokens: !tokens.isEmpty)
  }

  /// Adds what the tool call parser has made of the text to a candidate, and streams it.
  private func add(_ parsed: (text: String, parts: [ToolCallPart]), to index: Int, hasTokens: Bool) {
    let openCall = parsed.parts.countOfOpenCall
    add(parsed.parts[..<openCall], to: index)
    candidates[index].answer.text += parsed.text
    if writer.takesParts, !parsed.text.isEmpty || request.showsLogprobs && hasTokens {
      writer.add(parsed.text, logprobs: takeLogprobs(index), to: index)
    }
    add(parsed.parts[openCall...], to: index)
  }

  private func add(_ parts: ArraySlice<ToolCallPart>, to index: Int) {
    if parts.isEmpty { return }
    let begunCalls = candidates[index].answer.calls.count
    for part in parts { candidates[index].answer.add(part) }
    if writer.takesParts { writer.add(Array(parts), begun: begunCalls, to: index) }
  }

  /// The log-probabilities that the writer has not got yet; `nil` where none were requested.
  private func takeLogprobs(_ index: Int) -> JSONValue? {
    request.showsLogprobs ? candidates[index].parts.take() : nil
  }

  /// Ends a candidate, and the answer with the last one.
  private func finish(_ index: Int, reason: FinishReason, usage: GenerationUsage) {
    candidates[index].reason = reason
    if let rest = candidates[index].parser?.finish() { add(rest, to: index, hasTokens: false) }
    self.usage.completionTokens += usage.completionTokens
    // The prompt counts once.
    if index % request.candidatesPerPrompt == 0 {
      self.usage.promptTokens += usage.promptTokens
      self.usage.cachedTokens += usage.cachedTokens
    }
    if writer.takesParts {
      writer.end(index, candidates[index].answer, logprobs: takeLogprobs(index), reason: reason)
    }
    guard candidates.allSatisfy({ $0.reason != nil }) else { return }
    isOver = true
    let choices = best.map { candidate in
      FinishedChoice(
        answer: candidates[candidate].answer, logprobs: candidates[candidate].logprobs,
        reason: candidates[candidate].reason ?? .stop)
    }
    // Freeing many of them takes long, too, so the writer has the last reference.
    candidates = []
    writer.finish(choices, usage: self.usage)
  }

  private func fail(_ error: APIError) {
    cancel()
    writer.fail(error)
  }

  /// The indices of the candidates that become choices: for each prompt, those with the highest mean logprob, the best
  /// first. Without `best_of`, all candidates in their order.
  private var best: [Int] {
    let count = request.candidatesPerPrompt
    return request.prompts.indices.flatMap { prompt in
      let all = prompt * count..<(prompt + 1) * count
      let ranked = all.sorted {
        (candidates[$1].meanLogprob, $0) < (candidates[$0].meanLogprob, $1)
      }
      return count == request.choicesPerPrompt ? Array(all) : Array(ranked.prefix(request.choicesPerPrompt))
    }
  }
}

extension GenerationUsage {
  var json: JSONValue {
    [
      "prompt_tokens": .integer(promptTokens), "completion_tokens": .integer(completionTokens),
      "total_tokens": .integer(promptTokens + completionTokens),
      "prompt_tokens_details": ["cached_tokens": .integer(cachedTokens)],
    ]
  }
}

extension ServerContext {
  /// `system_fingerprint`: changes with the base and with the adapters' contents and scales.
  func fingerprint(_ adapters: AdapterSet) -> String {
    var hash = SHA256()
    hash.update(base.fingerprint)
    for term in adapters.terms { hash.update(";\(term.adapter.contentHash) \(term.weight)") }
    return "fp_" + hash.finish().prefix(12)
  }
}
