/// The events for a generation's client. They are collected during a pass and sent after it, so that the receiving
/// thread is woken once.
struct GenerationOutput {
  private var text: OutputText
  private var events: [GenerationEvent] = []
  private let sink: @Sendable (GenerationEvent) -> Void
  /// Finds the reason of the end, and then sends it.
  private var findEnd: (() -> Void)?

  init(text: OutputText, sink: @escaping @Sendable (GenerationEvent) -> Void) {
    self.text = text
    self.sink = sink
  }

  mutating func add(_ event: GenerationEvent) { events.append(event) }

  /// Adds a generated token.
  /// - Returns: whether the text now has a stop string
  mutating func push(_ record: TokenRecord) -> Bool {
    add(text.push(record))
    return text.isStopped
  }

  /// Adds the text that was held back, and the event that ends the generation.
  /// - Parameter hiddenToken: a last token without text
  mutating func finish(_ reason: FinishReason, _ usage: GenerationUsage, hiddenToken: TokenRecord? = nil) {
    add(text.finish())
    if let hiddenToken { add((text: "", tokens: [hiddenToken])) }
    events.append(.finished(reason, usage))
  }

  /// The same, where another thread finds the reason of the end.
  /// - Parameter findReason: called once, behind the events so far; calls what it is given with the reason, from any thread
  mutating func finish(
    _ usage: GenerationUsage, findReason: @escaping (@escaping @Sendable (FinishReason) -> Void) -> Void
  ) {
    add(text.finish())
    findEnd = { [sink] in findReason { sink(.finished($0, usage)) } }
  }

  private mutating func add(_ shown: (text: String, tokens: [TokenRecord])) {
    if !shown.text.isEmpty || !shown.tokens.isEmpty {
      events.append(.output(text: shown.text, tokens: shown.tokens))
    }
  }

  /// Sends the events gathered since the last call.
  mutating func send() {
    for event in events { sink(event) }
    events.removeAll(keepingCapacity: true)
    findEnd?()
    findEnd = nil
  }
}
