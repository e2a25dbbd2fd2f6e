public import Tokenization
public import Formats
public import Model

/// What the routes need of the rest: made at start, the same for every request.
public struct ServerContext: Sendable {
  public let engine: Engine
  public let tokenizer: Tokenizer
  public let adapters: AdapterStore
  public let base: Base
  public let contextLength: Int
  /// The id under which the base is listed.
  public let servedModelName: String
  /// Seconds since 1970.
  public let startedAt: Int
  /// How chats become prompts, or why they cannot.
  public let chat: Result<ChatFormat, ModelError>

  /// - Parameter chat: `nil` is the model's own template
  public init(
    engine: Engine, tokenizer: Tokenizer, adapters: AdapterStore, base: Base, contextLength: Int,
    servedModelName: String, startedAt: Int, chat: Result<ChatFormat, ModelError>? = nil
  ) {
    self.engine = engine
    self.tokenizer = tokenizer
    self.adapters = adapters
    self.base = base
    self.contextLength = contextLength
    self.servedModelName = servedModelName
    self.startedAt = startedAt
    self.chat =
      chat ?? Result { () throws(ModelError) in try ChatFormat(tokenizer, name: servedModelName) }
  }

  /// Gets the adapters that a request names, reading them where they are not in memory, and goes on with them on the
  /// loop; answers the request itself where one cannot be had. A request that waits for adapters counts as one that waits
  /// for the engine. `then` is not called for a client that is gone.
  /// - Parameters:
  ///   - timeout: the request's own
  ///   - then: gets the adapters, what the answer calls the model, and what is left of `timeout`
  func withAdapters(
    of exchange: HTTPExchange, _ fields: ModelFields, timeout: Duration?,
    then: @escaping (AdapterSet, String, Duration?) -> Void
  ) throws(APIError) {
    let selection = try selection(fields, query: exchange.request.queryItems)
    let loop = exchange.loop
    let began = ContinuousClock.now
    // Made and called on the loop; the loader's thread only carries it there.
    nonisolated(unsafe) let goOn = { [self] (result: Result<[Adapter], AdapterError>) in
      guard !exchange.isClosed else { return }
      switch result {
      case .success(let adapters):
        let terms = zip(adapters, selection.selector.terms).map { (adapter: $0, weight: $1.scale ?? 1) }
        then(AdapterSet(terms), selection.name, timeout.map { max($0 - began.duration(to: .now), .zero) })
      case .failure(let error) where error.kind == .unknownName:
        var error = error.apiError(param: selection.param)
        error.message += "; there are \(availableNames)"
        exchange.respond(error)
      case .failure(let error): exchange.respond(error, param: selection.param)
      }
    }
    let wait = adapters.acquire(selection.selector.references, timeout: timeout, places: engine) { result in
      if loop.isInLoop { goOn(result) } else { loop.execute { goOn(result) } }
    }
    if let wait { exchange.onClose { wait.cancel() } }
  }
}
