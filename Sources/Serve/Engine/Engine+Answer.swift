internal import Dispatch
internal import Synchronization

extension Engine {
  /// Generates the answer to one request, and waits for all of it. Not for the engine's own thread.
  /// - Returns: the answer's text
  /// - Throws: the error that ended the generation
  public func answer(
    to request: GenerationRequest, client: ClientIdentity = ClientIdentity()
  ) throws(EngineError) -> String {
    let hasEnded = DispatchSemaphore(value: 0)
    let answer = Mutex((text: "", error: EngineError?.none))
    _ = submit(request, client: client) { event in
      switch event {
      case .output(let text, _): answer.withLock { $0.text += text }
      case .finished: hasEnded.signal()
      case .failed(let error):
        answer.withLock { $0.error = error }
        hasEnded.signal()
      case .prompt, .pooled: break
      }
    }
    hasEnded.wait()
    let (text, error) = answer.withLock { ($0.text, $0.error) }
    if let error { throw error }
    return text
  }
}
