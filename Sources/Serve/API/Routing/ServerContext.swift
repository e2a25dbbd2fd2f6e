public import Tokenization
public import Formats
public import Model

/// The parts of the server that the routes use. Made once at the start.
public struct ServerContext: Sendable {
  /// Generates the answers.
  public let engine: Engine
  /// The base's tokenizer.
  public let tokenizer: Tokenizer
  /// The adapters that requests can name.
  public let adapters: AdapterStore
  /// The base model.
  public let base: Base
  /// Maximum positions of a request.
  public let contextLength: Int
  /// The id of the base in lists and answers.
  public let servedModelName: String
  /// When the server started, in seconds since 1970.
  public let startedAt: Int
  /// The compiled grammars of recent requests.
  let grammars: GrammarCache
  /// How chats become prompts, or why they cannot.
  public let chat: Result<ChatFormat, ModelError>
  /// The responses that are kept.
  public let responses: ResponseStore
  /// The thread that encodes large answers.
  let encoding = WorkerPool(label: "encoding", threads: 1)

  /// - Parameter chat: `nil` for the model's own template
  public init(
    engine: Engine, tokenizer: Tokenizer, adapters: AdapterStore, base: Base, contextLength: Int,
    servedModelName: String, startedAt: Int, responses: ResponseStore, chat: Result<ChatFormat, ModelError>? = nil
  ) {
    self.engine = engine
    self.tokenizer = tokenizer
    self.adapters = adapters
    self.base = base
    self.contextLength = contextLength
    self.servedModelName = servedModelName
    self.startedAt = startedAt
    self.responses = responses
    grammars = GrammarCache(tokenizer)
    self.chat =
      chat ?? Result { () throws(ModelError) in try ChatFormat(tokenizer, name: servedModelName) }
  }

  /// Gets the adapters that a request names, reading those that are not in memory, and calls `then` with them on the
  /// loop. If an adapter cannot be used, this answers the request. If the target closes, `then` is not called but
  /// released.
  func acquireAdapters(
    _ selection: ModelSelection, for target: any AnswerTarget, timeout: Duration?, then: @escaping (AdapterSet) -> Void
  ) {
    let loop = target.loop
    let finish = LoopBound(on: loop) { [self] (result: Result<[Adapter], AdapterError>) in
      guard !target.isClosed else { return }
      switch result {
      case .success(let adapters):
        then(AdapterSet(zip(adapters, selection.selector.terms).map { (adapter: $0, weight: $1.scale ?? 1) }))
      case .failure(let error) where error.kind == .unknownName:
        var error = error.apiError(param: selection.param)
        error.message += "; there are \(availableNames)"
        target.respond(error)
      case .failure(let error): target.respond(error.apiError(param: selection.param))
      }
    }
    let wait = adapters.acquire(selection.selector.references, timeout: timeout) { result in
      if loop.isInLoop { finish.value(result) } else { loop.execute { finish.value(result) } }
    }
    if let wait { target.onClose { wait.cancel() } }
  }
}
