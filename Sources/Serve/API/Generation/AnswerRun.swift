import Tokenization
import Formats
import Foundation
import Model

/// Answers one request for text: submits its choices to the engine, collects their events, and writes the answer in the
/// shape of its route, complete or as a stream. Used on the target's loop only.
final class AnswerRun {
  /// A choice that is being generated. With `best_of`, only the best candidates become choices of the answer.
  private struct Candidate {
    var answer = AnswerContent()
    /// Finds tool calls in the text.
    var parser: ToolCallParser?
    var logprobs: any LogprobsWriter
    /// The candidate's events with text and without logprobs.
    var textEvent: EventTemplate?
    var hasOpened = false
    var reason: FinishReason?
    /// The sum over the tokens that were shown, for `best_of`.
    var logprobSum = 0.0
    var tokenCount = 0

    var meanLogprob: Double { tokenCount == 0 ? 0 : logprobSum / Double(tokenCount) }
  }

  private let target: any AnswerTarget
  private let engine: Engine
  private let tokenizer: Tokenizer
  private let request: AnswerRequest
  private let shape: any AnswerShape
  /// The model's name in the answer.
  private let model: String
  private let fingerprint: String
  private let id: String
  private let created = Int(Date().timeIntervalSince1970)
  /// The engine's ids of the candidates.
  private var generations: [GenerationID] = []
  private var candidates: [Candidate]
  private var usage = GenerationUsage()
  private var isStreaming = false
  private var isOver = false
  /// The bytes of one event; the memory is reused.
  private var event: [UInt8] = []

  init(
    _ request: AnswerRequest, model: String, fingerprint: String, target: any AnswerTarget, context: ServerContext
  ) {
    self.request = request
    shape = request.shape
    self.model = model
    self.fingerprint = fingerprint
    self.target = target
    engine = context.engine
    tokenizer = context.tokenizer
    id = shape.idPrefix + UUID().uuidString.lowercased().filter { $0 != "-" }
    candidates = (0..<request.candidateCount).map { [shape] _ in
      Candidate(parser: shape.makeParser(), logprobs: shape.makeLogprobs(context.tokenizer))
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
    if case .failed(let error) = event { return fail(error.apiError) }
    openStream(index)
    switch event {
    case .prompt(let records):
      let text = tokenizer.decode(request.prompts[promptIndex(of: index)], skippingSpecialTokens: false)
      show(text, records, of: index, isPrompt: true)
    case .output(let text, let tokens): show(text, tokens, of: index)
    case .finished(let reason, let usage): finish(index, reason: reason, usage: usage)
    case .pooled, .failed: break
    }
  }

  /// Begins the response, if this is its first event, and the choice's stream. The status is only decided now, so a
  /// request that fails before its first event is answered with an error status.
  private func openStream(_ index: Int) {
    guard request.stream else { return }
    if !isStreaming {
      isStreaming = true
      target.startStreaming(
        status: 200, headers: ["Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"],
        length: nil)
    }
    if !candidates[index].hasOpened {
      candidates[index].hasOpened = true
      if let opening = shape.opening(index) { send([opening]) }
    }
  }

  /// Adds text and the tokens that end in it to a candidate.
  private func show(_ text: String, _ tokens: [TokenRecord], of index: Int, isPrompt: Bool = false) {
    if request.showsLogprobs { candidates[index].logprobs.append(tokens, isPrompt: isPrompt) }
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
  private func add(_ parsed: (text: String, calls: [ToolCall]), to index: Int, hasTokens: Bool) {
    let firstCall = candidates[index].answer.calls.count
    candidates[index].answer.text += parsed.text
    candidates[index].answer.calls += parsed.calls
    guard request.stream else { return }
    if !request.showsLogprobs {
      if !parsed.text.isEmpty { send(parsed.text, of: index) }
    } else if !parsed.text.isEmpty || hasTokens {
      send([shape.delta(index, text: parsed.text, logprobs: takeLogprobs(index))])
    }
    if !parsed.calls.isEmpty, let choice = shape.calls(index, parsed.calls, first: firstCall) { send([choice]) }
  }

  private func takeLogprobs(_ index: Int) -> JSONValue {
    request.showsLogprobs ? candidates[index].logprobs.take() : .null
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
    if request.stream {
      send([shape.ending(index, candidates[index].answer, logprobs: takeLogprobs(index), reason: reason)])
    }
    guard candidates.allSatisfy({ $0.reason != nil }) else { return }
    isOver = true
    request.stream ? endStream() : respond()
  }

  private func fail(_ error: APIError) {
    cancel()
    if isStreaming {
      target.write(SSEWriter.event(error.json))
      target.end()
    } else {
      target.respond(error)
    }
  }

  // MARK: the answer

  private func respond() {
    let list = best.enumerated().map { index, candidate in
      shape.choice(
        index, candidates[candidate].answer, logprobs: takeLogprobs(candidate),
        reason: candidates[candidate].reason ?? .stop)
    }
    target.respond(json: envelope(shape.wholeObject, choices: list, usage: usage.json))
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

  private func send(_ choices: [JSONValue]) { target.write(chunk(choices)) }

  /// Sends text without logprobs. Does the same as `send` of the shape's delta, but faster.
  private func send(_ text: String, of index: Int) {
    let textEvent =
      candidates[index].textEvent ?? EventTemplate { chunk([shape.delta(index, text: $0, logprobs: .null)]) }
    candidates[index].textEvent = textEvent
    event.removeAll(keepingCapacity: true)
    textEvent.append(to: &event) { JSONValue.escape(text, into: &$0) }
    target.write(event)
  }

  private func chunk(_ choices: [JSONValue]) -> [UInt8] {
    let usage = request.includeUsage ? #","usage":null}"# : "}"
    return SSEWriter.event(chunkOpening + JSONValue.array(choices).encoded + Array(usage.utf8))
  }

  private func endStream() {
    if request.includeUsage {
      target.write(SSEWriter.event(envelope(shape.chunkObject, choices: [], usage: usage.json)))
    }
    target.write(SSEWriter.done)
    target.end()
  }

  /// The JSON of a chunk up to its choices. It is the same for all chunks of a stream, so it is encoded once.
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
