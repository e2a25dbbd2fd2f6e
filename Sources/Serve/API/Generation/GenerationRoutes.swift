import Logging
import Model

/// `POST /v1/completions` and `POST /v1/chat/completions`.
///
/// A request takes these steps: its body is parsed and checked (`AnswerRequest`), it is admitted (`Admission`), its
/// adapters are read into memory where they are not (`AdapterSet`), and `AnswerRun` submits it to the engine and answers.
struct GenerationRoutes: Sendable {
  let context: ServerContext
  let preparation: RequestPreparation
  let unknownNames: UnknownNameLog
  let logger: Logger

  func add(to router: inout Router) {
    router.on("POST", "v1/completions", query: ["adapter"]) { complete($0) }
    router.on("POST", "v1/chat/completions", query: ["adapter"]) { chat($0) }
  }

  private func complete(_ request: RoutedRequest) {
    request.exchange.collectJSON(.prompts, preparation) { (fields, abandonment) throws(APIError) in
      try FieldCatalog.completions.check(fields, log: unknownNames, path: "/v1/completions")
      return try CompletionRequest.parse(fields, prompts: promptTokenizer(abandonment))
    } then: { (parsed: AnswerRequest) throws(APIError) in
      try answer(parsed, to: request)
    }
  }

  private func chat(_ request: RoutedRequest) {
    request.exchange.collectJSON(.chat, preparation) { (fields, abandonment) throws(APIError) in
      try FieldCatalog.chat.check(fields, log: unknownNames, path: "/v1/chat/completions")
      return try ChatRequest.parse(fields, context: context, prompts: promptTokenizer(abandonment))
    } then: { (parsed: AnswerRequest) throws(APIError) in
      tellWarnings(of: parsed, to: request.exchange)
      try answer(parsed, to: request)
    }
  }

  private func promptTokenizer(_ abandonment: Abandonment) -> PromptTokenizer {
    PromptTokenizer(tokenizer: context.tokenizer, contextLength: context.contextLength, abandonment: abandonment)
  }

  /// Reports what the model does not see of the request, in a header of the answer and in the log.
  private func tellWarnings(of parsed: AnswerRequest, to exchange: HTTPExchange) {
    if parsed.warnings.isEmpty { return }
    exchange.setHeader("x-graft-warning", parsed.warnings.joined(separator: " "))
    for warning in parsed.warnings { logger.warning("\(warning)") }
  }

  /// Admits a parsed request, gets its adapters, submits it and answers. If the client leaves while adapters are read,
  /// nothing holds the admissions any more, which releases them.
  private func answer(_ parsed: AnswerRequest, to request: RoutedRequest) throws(APIError) {
    let exchange = request.exchange
    let selection = try context.selection(parsed.model, query: exchange.request.queryItems)
    let label = selection.selector.label
    let admissions: [Admission]
    do {
      admissions = try context.engine.admit(request.client, label: label, count: parsed.candidateCount)
    } catch { throw error.apiError }
    context.acquireAdapters(selection, for: exchange, timeout: parsed.options.timeout) { [context] adapters in
      AnswerRun(
        parsed, model: selection.name, fingerprint: context.fingerprint(adapters), exchange: exchange,
        context: context
      ).start(adapters: adapters, admissions: admissions, label: label)
    }
  }
}
