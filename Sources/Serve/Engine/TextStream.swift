/// The answer to one request of a `LocalModel`, as texts in order. Together they are the answer.
///
/// The generation begins with the stream, not with its first iteration; texts that are not read yet are kept. It ends
/// early, and its cache blocks are released, when iterating stops: when the loop is left, the iterating task is cancelled,
/// or the stream is released. So a stream is for one loop; another one finds no more texts once the first has stopped.
public struct TextStream: AsyncSequence, Sendable {
  private let texts: AsyncThrowingStream<String, any Error>
  private let continuation: AsyncThrowingStream<String, any Error>.Continuation

  /// Submits a request.
  /// - Parameter owner: released when the generation has ended
  init(_ request: GenerationRequest, engine: Engine, owner: any AnyObject & Sendable) {
    let (texts, continuation) = AsyncThrowingStream<String, any Error>.makeStream()
    (self.texts, self.continuation) = (texts, continuation)
    let id = engine.submit(request) { event in
      switch event {
      case .output(let text, _): if !text.isEmpty { continuation.yield(text) }
      case .finished: continuation.finish()
      case .failed(let error): continuation.finish(throwing: error)
      case .prompt, .pooled: break
      }
      withExtendedLifetime(owner) {}
    }
    // A generation that has ended by itself is not affected.
    continuation.onTermination = { [engine] _ in engine.cancel(id) }
  }

  /// Begins to read the texts.
  public func makeAsyncIterator() -> AsyncIterator {
    AsyncIterator(texts: texts.makeAsyncIterator(), reading: Reading(continuation))
  }

  /// Reads the texts. The generation ends when the last copy is released.
  public struct AsyncIterator: AsyncIteratorProtocol {
    fileprivate var texts: AsyncThrowingStream<String, any Error>.AsyncIterator
    fileprivate let reading: Reading

    /// Waits for the next text.
    /// - Returns: `nil` after the last one
    /// - Throws: `EngineError`, the reason why the generation ended early
    public mutating func next() async throws -> String? { try await texts.next() }
  }

  /// Ends the stream, and so its generation, when no iterator reads it any more. The stream itself, which the program may
  /// still hold, cannot tell that.
  fileprivate final class Reading: Sendable {
    private let continuation: AsyncThrowingStream<String, any Error>.Continuation

    init(_ continuation: AsyncThrowingStream<String, any Error>.Continuation) { self.continuation = continuation }

    deinit { continuation.finish() }
  }
}
