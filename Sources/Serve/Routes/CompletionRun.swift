import Foundation
import Model

/// One completion request from submission to its last byte: gathers its choices' events and answers, whole or as a
/// stream. Lives on the loop.
final class CompletionRun {
  private struct Choice {
    var id: GenerationID?
    var text = ""
    var logprobs: CompletionLogprobs
    var finishReason: FinishReason?
  }

  private let exchange: HTTPExchange
  private let engine: Engine
  private let tokenizer: Tokenizer
  private let request: CompletionRequest
  /// What the answer calls the model.
  private let model: String
  private let id = "cmpl-" + UUID().uuidString.lowercased().filter { $0 != "-" }
  private let created = Int(Date().timeIntervalSince1970)
  private var choices: [Choice]
  private var usage = GenerationUsage()
  private var isStreaming = false
  private var isOver = false

  init(
    _ request: CompletionRequest, model: String, exchange: HTTPExchange, engine: Engine, tokenizer: Tokenizer
  ) {
    self.request = request
    self.model = model
    self.exchange = exchange
    self.engine = engine
    self.tokenizer = tokenizer
    let count = request.prompts.count * request.choicesPerPrompt
    choices = (0..<count).map { _ in Choice(logprobs: CompletionLogprobs(tokenizer: tokenizer)) }
  }

  func start(adapters: AdapterSet, client: String) {
    exchange.onClose { [self] in cancel() }
    let seed = request.seed ?? UInt64.random(in: .min ... .max)
    for index in choices.indices {
      let prompt = request.prompts[index / request.choicesPerPrompt]
      var generation = GenerationRequest(
        prompt: prompt, adapters: adapters, maxTokens: request.maxTokens,
        sampling: SamplingParameters(
          temperature: Float(request.temperature), topP: Float(request.topP),
          seed: seed &+ UInt64(index % request.choicesPerPrompt)),
        stop: request.stop, ignoresEndOfText: request.ignoreEOS, topLogprobs: request.logprobs,
        echoesPrompt: request.echo)
      generation.client = client
      generation.label = adapters.label(model)
      generation.timeout = request.timeout
      let loop = exchange.loop
      // The run belongs to the loop; the engine's thread only carries it there.
      nonisolated(unsafe) let run = self
      choices[index].id = engine.submit(generation) { event in
        loop.execute { run.receive(event, choice: index) }
      }
    }
  }

  private func cancel() {
    isOver = true
    for choice in choices where choice.finishReason == nil { choice.id.map(engine.cancel) }
  }

  private func receive(_ event: GenerationEvent, choice index: Int) {
    guard !isOver else { return }
    if case .failed = event {} else { openStream() }
    switch event {
    case .prompt(let records):
      let text = tokenizer.decode(request.prompts[index / request.choicesPerPrompt], skippingSpecialTokens: false)
      show(text, records, index, isPrompt: true)
    case .output(let text, let tokens): show(text, tokens, index)
    case .finished(let reason, let spent): finish(index, reason, spent)
    case .failed(let error): fail(error.apiError)
    }
  }

  /// The status is known only now: what fails before the first event is answered with its own.
  private func openStream() {
    guard request.stream, !isStreaming else { return }
    isStreaming = true
    exchange.startStreaming(status: 200, headers: ["Content-Type": "text/event-stream", "Cache-Control": "no-cache"])
  }

  private func show(_ text: String, _ tokens: [TokenRecord], _ index: Int, isPrompt: Bool = false) {
    if request.logprobs != nil { choices[index].logprobs.append(tokens, isPrompt: isPrompt) }
    guard request.stream else {
      choices[index].text += text
      return
    }
    if text.isEmpty && request.logprobs == nil { return }
    sendChunk(index, text: text, finishReason: nil)
  }

  private func finish(_ index: Int, _ reason: FinishReason, _ spent: GenerationUsage) {
    choices[index].finishReason = reason
    usage.completionTokens += spent.completionTokens
    if index % request.choicesPerPrompt == 0 {
      usage.promptTokens += spent.promptTokens
      usage.cachedTokens += spent.cachedTokens
    }
    if request.stream { sendChunk(index, text: "", finishReason: reason) }
    guard choices.allSatisfy({ $0.finishReason != nil }) else { return }
    isOver = true
    request.stream ? endStream() : respond()
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

  // MARK: the answer's shapes

  private func respond() {
    let list = choices.indices.map { index in
      choiceJSON(index, text: choices[index].text, finishReason: choices[index].finishReason)
    }
    exchange.respond(json: envelope(choices: list, usage: usage.json))
  }

  private func sendChunk(_ index: Int, text: String, finishReason: FinishReason?) {
    let chunk = choiceJSON(index, text: text, finishReason: finishReason)
    exchange.write(SSEWriter.event(envelope(choices: [chunk], usage: request.includeUsage ? .null : nil)))
  }

  private func endStream() {
    if request.includeUsage { exchange.write(SSEWriter.event(envelope(choices: [], usage: usage.json))) }
    exchange.write(SSEWriter.done)
    exchange.end()
  }

  private func choiceJSON(_ index: Int, text: String, finishReason: FinishReason?) -> JSONValue {
    [
      "text": .string(text), "index": .integer(index),
      "logprobs": request.logprobs == nil ? .null : choices[index].logprobs.take(),
      "finish_reason": finishReason.map { .string($0.rawValue) } ?? .null,
    ]
  }

  private func envelope(choices: [JSONValue], usage: JSONValue?) -> JSONValue {
    var pairs: [(key: String, value: JSONValue)] = [
      ("id", .string(id)), ("object", "text_completion"), ("created", .integer(created)), ("model", .string(model)),
      ("choices", .array(choices)),
    ]
    if let usage { pairs.append(("usage", usage)) }
    return .object(JSONObject(keepingFirst: pairs))
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
