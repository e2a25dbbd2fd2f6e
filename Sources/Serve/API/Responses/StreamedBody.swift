import Formats
import Synchronization

/// Makes a response's body chunk by chunk.
protocol BodySource: Sendable {
  /// The next chunk; `nil` at the end. May wait for the disk.
  mutating func next() throws -> [UInt8]?
}

/// A response whose body a worker pool makes chunk by chunk, each after the client has received the one before. So the
/// body is never in memory as a whole, and making it does not block the event loop.
final class StreamedBody<Source: BodySource>: Sendable {
  private let exchange: HTTPExchange
  private let pool: WorkerPool
  private let source: Mutex<Source>
  private let onFailure: @Sendable (any Error) -> Void

  /// - Parameter onFailure: called on the pool with what `source` throws
  init(
    _ source: sending Source, to exchange: HTTPExchange, on pool: WorkerPool,
    onFailure: @escaping @Sendable (any Error) -> Void = { _ in }
  ) {
    self.source = Mutex(source)
    self.exchange = exchange
    self.pool = pool
    self.onFailure = onFailure
  }

  /// Begins the response. On the loop.
  /// - Parameter length: the body's length, if it is known
  func start(headers: HTTPHeaders, length: Int? = nil) {
    exchange.startStreaming(status: 200, headers: headers, length: length)
    if exchange.request.method == "HEAD" { return exchange.end() }
    exchange.onDrain { [self] in sendNext() }
    sendNext()
  }

  private func sendNext() {
    pool.async { [self] in
      let chunk = Result { try source.withLock { try $0.next() } }
      if case .failure(let error) = chunk { onFailure(error) }
      exchange.loop.execute { [self] in
        guard !exchange.isClosed, !exchange.isEnded else { return }
        switch chunk {
        // Closing the connection shows the client that the body is incomplete.
        case .failure: exchange.abort()
        case .success(nil): exchange.end()
        case .success(let bytes?): if exchange.write(bytes) { sendNext() }
        }
      }
    }
  }
}

extension HTTPExchange {
  /// Runs `work` on a pool, which also encodes what it returns, and answers on the loop with that or with what it throws.
  func respond(on pool: WorkerPool, _ work: @escaping @Sendable () throws(APIError) -> JSONValue) {
    pool.async { [self] in
      let result = Result { () throws(APIError) in try work().encoded }
      loop.execute { [self] in
        switch result {
        case .success(let json): respond(encoded: json)
        case .failure(let error): respond(error)
        }
      }
    }
  }

  /// Answers with JSON, or with an error.
  func respond(_ result: Result<JSONValue, APIError>) {
    switch result {
    case .success(let json): respond(json: json)
    case .failure(let error): respond(error)
    }
  }
}
