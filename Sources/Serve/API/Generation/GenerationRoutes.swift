import Formats
import Logging
import Tokenization

/// The routes that the model answers: completions, chats, responses and embeddings.
///
/// A request takes these steps: its body is parsed and checked (`PreparedRequest`), it is admitted (`Admission`), its
/// adapters are read into memory where they are not (`AdapterSet`), and a run (`AnswerRun`, `EmbeddingRun`) submits it to
/// the engine and answers.
struct GenerationRoutes: Sendable {
  let context: ServerContext
  let preparation: RequestPreparation
  let unknownNames: UnknownNameLog
  let logger: Logger
  /// Whether the text of every prompt is logged.
  let logsPrompts: Bool

  func add(to router: inout Router) {
    for endpoint in GenerationEndpoint.allCases {
      router.on("POST", String(endpoint.rawValue.dropFirst()), query: ["adapter"]) { answer(endpoint, $0) }
    }
  }

  private func answer(_ endpoint: GenerationEndpoint, _ request: RoutedRequest) {
    let exchange = request.exchange
    let id = exchange.id
    guard let memory = exchange.memoryShare else { return }
    exchange.collectJSON(endpoint.limits, preparation) { (fields, abandonment) throws(APIError) in
      let prepared = try endpoint.prepare(
        fields, context: context, memory: memory, unknownNames: unknownNames, abandonment)
      if logsPrompts { logPrompts(of: prepared, endpoint, id: id) }
      return prepared
    } then: { (prepared: any PreparedRequest) throws(APIError) in
      tellWarnings(of: prepared, to: exchange)
      try prepared.run(
        for: exchange, client: request.client, query: exchange.request.queryItems, context: context)
    }
  }

  /// Logs the prompts as the model sees them: JSON strings, so that each is one line.
  private func logPrompts(of prepared: any PreparedRequest, _ endpoint: GenerationEndpoint, id: String) {
    for prompt in prepared.prompts {
      let text = JSONValue.string(context.tokenizer.decode(prompt, skippingSpecialTokens: false)).encoded
      logger.info(
        "prompt",
        metadata: [
          "id": .string(id), "path": .string(endpoint.rawValue), "text": .string(String(decoding: text, as: UTF8.self)),
        ])
    }
  }

  /// Reports warnings in a header of the answer and in the log.
  private func tellWarnings(of prepared: any PreparedRequest, to exchange: HTTPExchange) {
    if prepared.warnings.isEmpty { return }
    exchange.setHeader("x-graft-warning", Self.headerText(prepared.warnings.joined(separator: " ")))
    for warning in prepared.warnings { logger.warning("\(warning)") }
  }

  /// Names that a client gave can be long and have any characters; a header's value is short and in ASCII.
  private static func headerText(_ text: String) -> String {
    let most = 2_000
    let ascii = text.unicodeScalars.map { (" "..."~").contains($0) ? String($0) : $0.escaped(asASCII: true) }.joined()
    return ascii.utf8.count > most ? String(ascii.prefix(most)) + "..." : ascii
  }
}

/// A route that the model answers. The raw value is its path, as a batch names it.
enum GenerationEndpoint: String, CaseIterable, Sendable {
  case completions = "/v1/completions"
  case chat = "/v1/chat/completions"
  case embeddings = "/v1/embeddings"
  case responses = "/v1/responses"

  /// The fields that a body can have.
  var catalog: FieldCatalog {
    switch self {
    case .completions: .completions
    case .chat: .chat
    case .embeddings: .embeddings
    case .responses: .responses
    }
  }

  var limits: BodyLimits { self == .chat || self == .responses ? .chat : .prompts }

  /// Parses and checks a request's fields, and tokenises what it has for the model.
  /// - Parameter memory: what the client may hold of what is read for the request
  /// - Throws: `APIError` that names the field
  func prepare(
    _ fields: RequestFields, context: ServerContext, memory: MemoryShare, unknownNames: UnknownNameLog,
    _ abandonment: Abandonment
  ) throws(APIError) -> any PreparedRequest {
    try catalog.check(fields, log: unknownNames, path: rawValue)
    let prompts = PromptTokenizer(
      tokenizer: context.tokenizer, contextLength: context.contextLength, abandonment: abandonment)
    switch self {
    case .completions: return try CompletionRequest.parse(fields, prompts: prompts, grammars: context.grammars)
    case .chat: return try ChatRequest.parse(fields, context: context, prompts: prompts)
    case .embeddings: return try EmbeddingRequest(fields, context: context, prompts: prompts)
    case .responses: return try ResponseRequest.parse(fields, context: context, memory: memory, prompts: prompts)
    }
  }
}

/// A request that was parsed and checked.
protocol PreparedRequest: Sendable {
  /// What the model reads, as tokens.
  var prompts: [[Int32]] { get }
  /// What the model does not see of the request and what its answer is not held to, in sentences.
  var warnings: [String] { get }

  /// Admits the request, gets its adapters, submits it and answers. If the target closes while adapters are read, nothing
  /// holds the admissions any more, which releases them.
  /// - Parameter query: the query of the request's URL, which can name adapters
  /// - Throws: the answer to a request that names no model or is not admitted
  func run(
    for target: any AnswerTarget, client: ClientIdentity, query: [(name: String, value: String)],
    context: ServerContext
  ) throws(APIError)
}

extension AnswerRequest: PreparedRequest {
  func run(
    for target: any AnswerTarget, client: ClientIdentity, query: [(name: String, value: String)],
    context: ServerContext
  ) throws(APIError) {
    let selection = try context.selection(model, query: query)
    let label = selection.selector.label
    let admissions: [Admission]
    do {
      admissions = try context.engine.admit(client, label: label, count: candidateCount)
    } catch { throw error.apiError }
    if stream { target.startEventStreamIfSilent() }
    context.acquireAdapters(selection, for: target, timeout: options.timeout) { adapters in
      AnswerRun(
        self, model: selection.name, fingerprint: context.fingerprint(adapters), target: target, context: context
      ).start(adapters: adapters, admissions: admissions, label: label)
    }
  }
}
