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

  /// The adapters that a request names in its query or as its model, and what the answer calls the model.
  func selection(
    model: String?, query: [(name: String, value: String)]
  ) throws(APIError) -> (adapters: AdapterSet, name: String) {
    let named = query.filter { $0.name == "adapter" }.map(\.value)
    guard named.count <= 1 else {
      throw .invalid("'adapter' is given more than once", param: "adapter", code: "invalid_value")
    }
    let isBase = model == nil || model == "base" || model == servedModelName
    let fromModel = isBase ? nil : try AdapterSelector(model ?? "", param: "model")
    guard let text = named.first else {
      guard let fromModel else { return (.none, servedModelName) }
      let name = fromModel.terms.isEmpty ? nil : model
      return (try fromModel.resolve(in: adapters, param: "model"), name ?? servedModelName)
    }
    let selector = try AdapterSelector(text, param: "adapter")
    if let fromModel, !fromModel.names(sameAs: selector) {
      throw .invalid(
        "'adapter' names '\(text)' and 'model' names '\(model ?? "")'", param: "adapter", code: "invalid_value")
    }
    return (
      try selector.resolve(in: adapters, param: "adapter"), selector.terms.isEmpty ? servedModelName : text
    )
  }
}
