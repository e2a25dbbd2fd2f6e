import Tokenization
import Formats
import Foundation
import Model

/// One request for text from submission to its last byte: gathers its choices' events and answers, whole or as a
/// stream, in the shape of its route. Lives on the loop.
final class AnswerRun {
  /// An answer being made; of several candidates the best become choices.
  private struct Candidate {
    var id: GenerationID?
    var answer = AnswerContent()
    var parser: ToolCallParser?
    var logprobs: any LogprobsWriter
    /// Its events that have a text and no logprobs.
    var piece: EventTemplate?
    var hasOpened = false
    var reason: FinishReason?
    /// Of the tokens shown, for `best_of`.
    var logprobSum = 0.0
    var tokenCount = 0

    var meanLogprob: Double { tokenCount == 0 ? 0 : logprobSum / Double(tokenCount) }
  }

  private let exchange: HTTPExchange
  private let engine: Engine
  private let tokenizer: Tokenizer
  private let plan: GenerationPlan
  private let shape: any AnswerShape
  /// What the answer calls the model.
  private let model: String
  private let fingerprint: String
  private let id: String
  private let created = Int(Date().timeIntervalSince1970)
  private var candidates: [Candidate]
  private var usage = GenerationUsage()
  private var isStreaming = false
  private var isOver = false
  /// Room for an event.
  private var event: [UInt8] = []

  init(
    _ plan: GenerationPlan, shape: any AnswerShape, model: String, fingerprint: String, exchange: HTTPExchange,
    context: ServerContext
  ) {
    self.plan = plan
    self.shape = shape
    self.model = model
    self.fingerprint = fingerprint
    self.exchange = exchange
    engine = context.engine
    tokenizer = context.tokenizer
    id = shape.idPrefix + UUID().uuidString.lowercased().filter { $0 != "-" }
    let count = plan.prompts.count * plan.candidatesPerPrompt
    candidates = (0..<count).map { _ in
      Candidate(parser: shape.makeParser(), logprobs: shape.makeLogprobs(context.tokenizer))
    }
  }

  /// - Parameter client: whose request it is, for fairness
  func start(adapters: AdapterSet, client: ClientIdentity) {
    exchange.onClose { [self] in cancel() }
    // Which candidates are best is told by their logprobs.
    let isChoosing = plan.candidatesPerPrompt > plan.choicesPerPrompt
    let label = adapters.label(model)
    engine.together {
      for index in candidates.indices { submit(index, isChoosing, adapters, client, label) }
    }
  }

  private func submit(
    _ index: Int, _ isChoosing: Bool, _ adapters: AdapterSet, _ client: ClientIdentity,
    _ label: String
  ) {
    var sampling = plan.sampling
    sampling.seed &+= UInt64(index % plan.candidatesPerPrompt)
    var generation = GenerationRequest(
      prompt: plan.prompts[promptIndex(index)], adapters: adapters, maxTokens: plan.maxTokens, sampling: sampling,
      stop: plan.stop, endTokens: plan.endTokens, ignoresEndOfText: plan.ignoreEOS,
      topLogprobs: plan.logprobs ?? (isChoosing ? 0 : nil), echoesPrompt: plan.echo)
    generation.client = client
    generation.label = label
    generation.timeout = plan.timeout
    let loop = exchange.loop
    // The run belongs to the loop; the engine's thread only carries it there.
    nonisolated(unsafe) let run = self
    candidates[index].id = engine.submit(generation) { event in
      loop.execute { run.receive(event, index) }
    }
  }

  private func promptIndex(_ candidate: Int) -> Int { candidate / plan.candidatesPerPrompt }

  private func cancel() {
    isOver = true
    for candidate in candidates where candidate.reason == nil { candidate.id.map(engine.cancel) }
  }

  private func receive(_ event: GenerationEvent, _ index: Int) {
    guard !isOver else { return }
    if case .failed(let error) = event { return fail(error.apiError) }
    openStream(index)
    switch event {
    case .prompt(let records):
      show(tokenizer.decode(plan.prompts[promptIndex(index)], skippingSpecialTokens: false), records, index, true)
    case .output(let text, let tokens): show(text, tokens, index, false)
    case .finished(let reason, let spent): finish(index, reason, spent)
    case .failed: break
    }
  }

  /// The status is known only now: what fails before the first event is answered with its own.
  private func openStream(_ index: Int) {
    guard plan.stream else { return }
    if !isStreaming {
      isStreaming = true
      exchange.startStreaming(
        status: 200, headers: ["Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"])
    }
    if !candidates[index].hasOpened {
      candidates[index].hasOpened = true
      if let opening = shape.opening(index) { send([opening]) }
    }
  }

  private func show(_ text: String, _ tokens: [TokenRecord], _ index: Int, _ isPrompt: Bool) {
    if plan.logprobs != nil { candidates[index].logprobs.append(tokens, isPrompt: isPrompt) }
    if !isPrompt {
      for token in tokens {
        candidates[index].logprobSum += Double(token.logprob ?? 0)
        candidates[index].tokenCount += 1
      }
    }
    let found = candidates[index].parser?.push(text) ?? (text, [])
    tell(found, index, hasTokens: !tokens.isEmpty)
  }

  private func tell(_ found: (text: String, calls: [ToolCall]), _ index: Int, hasTokens: Bool) {
    let before = candidates[index].answer.calls.count
    candidates[index].answer.text += found.text
    candidates[index].answer.calls += found.calls
    guard plan.stream else { return }
    if plan.logprobs == nil {
      if !found.text.isEmpty { send(found.text, index) }
    } else if !found.text.isEmpty || hasTokens {
      send([shape.piece(index, text: found.text, logprobs: takeLogprobs(index))])
    }
    if !found.calls.isEmpty, let choice = shape.calls(index, found.calls, first: before) { send([choice]) }
  }

  private func takeLogprobs(_ index: Int) -> JSONValue {
    plan.logprobs == nil ? .null : candidates[index].logprobs.take()
  }

  private func finish(_ index: Int, _ reason: FinishReason, _ spent: GenerationUsage) {
    candidates[index].reason = reason
    if let rest = candidates[index].parser?.finish() { tell(rest, index, hasTokens: false) }
    usage.completionTokens += spent.completionTokens
    if index % plan.candidatesPerPrompt == 0 {
      usage.promptTokens += spent.promptTokens
      usage.cachedTokens += spent.cachedTokens
    }
    if plan.stream {
      send([shape.ending(index, candidates[index].answer, logprobs: takeLogprobs(index), reason: reason)])
    }
    guard candidates.allSatisfy({ $0.reason != nil }) else { return }
    isOver = true
    plan.stream ? endStream() : respond()
  }

  private func fail(_ error: APIError) {
    cancel()
    if isStreaming {
      exchange.write(SSEWriter.event(error.json))
      exchange.end()
    } else {
      exchange.respond(error)
    }
  }

  // MARK: the answer

  private func respond() {
    let list = best.enumerated().map { index, place in
      shape.choice(
        index, candidates[place].answer, logprobs: takeLogprobs(place), reason: candidates[place].reason ?? .stop)
    }
    exchange.respond(json: envelope(shape.wholeObject, choices: list, usage: usage.json))
  }

  /// Where the candidates are that become choices: of each prompt those with the highest logprob a token, in the order
  /// of their making.
  private var best: [Int] {
    let count = plan.candidatesPerPrompt
    return plan.prompts.indices.flatMap { prompt in
      let all = prompt * count..<(prompt + 1) * count
      let ranked = all.sorted {
        (candidates[$1].meanLogprob, $0) < (candidates[$0].meanLogprob, $1)
      }
      return count == plan.choicesPerPrompt ? Array(all) : Array(ranked.prefix(plan.choicesPerPrompt))
    }
  }

  private func send(_ choices: [JSONValue]) { exchange.write(chunk(choices)) }

  /// The same as `send` of the shape's piece without logprobs.
  private func send(_ text: String, _ index: Int) {
    let piece = candidates[index].piece ?? EventTemplate { chunk([shape.piece(index, text: $0, logprobs: .null)]) }
    candidates[index].piece = piece
    event.removeAll(keepingCapacity: true)
    piece.append(to: &event) { JSONValue.escape(text, into: &$0) }
    exchange.write(event)
  }

  private func chunk(_ choices: [JSONValue]) -> [UInt8] {
    let usage = plan.includeUsage ? #","usage":null}"# : "}"
    return SSEWriter.event(chunkOpening + JSONValue.array(choices).encoded + Array(usage.utf8))
  }

  private func endStream() {
    if plan.includeUsage {
      exchange.write(SSEWriter.event(envelope(shape.chunkObject, choices: [], usage: usage.json)))
    }
    exchange.write(SSEWriter.done)
    exchange.end()
  }

  /// What every chunk of a stream has in common, up to its choices: most of its bytes, so made once.
  private lazy var chunkOpening: [UInt8] =
    JSONValue.object(JSONObject(keepingFirst: head(shape.chunkObject))).encoded.dropLast() + Array(#","choices":"#.utf8)

  private func head(_ object: String) -> [(key: String, value: JSONValue)] {
    [
      ("id", .string(id)), ("object", .string(object)), ("created", .integer(created)), ("model", .string(model)),
      ("system_fingerprint", .string(fingerprint)),
    ]
  }

  private func envelope(_ object: String, choices: [JSONValue], usage: JSONValue) -> JSONValue {
    .object(JSONObject(keepingFirst: head(object) + [("choices", .array(choices)), ("usage", usage)]))
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
