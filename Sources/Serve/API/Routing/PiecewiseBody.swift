import Foundation

/// A response's body that is made piece by piece on a queue, each when the client has taken what came before, so that
/// neither the loop nor the memory has to do with all of it at once.
///
/// `@unchecked Sendable`: all happens on the loop but the making of a piece, during which nothing else does.
final class PiecewiseBody: @unchecked Sendable {
  /// Makes the next piece; `nil` at the end. An error breaks the connection off, so that nobody takes the beginning for
  /// the whole.
  typealias Maker = () throws -> [UInt8]?

  private let exchange: HTTPExchange
  private let queue: DispatchQueue
  private let make: Maker
  private let onFailure: (any Error) -> Void

  /// - Parameter onFailure: called with what `make` throws, on the queue
  init(
    _ exchange: HTTPExchange, _ queue: DispatchQueue, onFailure: @escaping (any Error) -> Void = { _ in },
    _ make: @escaping Maker
  ) {
    self.exchange = exchange
    self.queue = queue
    self.onFailure = onFailure
    self.make = make
  }

  /// Begins the response. On the loop.
  /// - Parameter length: the body's, if it is known
  func start(headers: HTTPHeaders, length: Int? = nil) {
    exchange.startStreaming(status: 200, headers: headers, length: length)
    if exchange.request.method == "HEAD" { return exchange.end() }
    exchange.onDrain { [self] in next() }
    next()
  }

  private func next() {
    queue.async { [self] in
      let piece = Result { try make() }
      if case .failure(let error) = piece { onFailure(error) }
      exchange.loop.execute { [self] in
        guard !exchange.isClosed, !exchange.isEnded else { return }
        switch piece {
        case .failure: exchange.abort()
        case .success(nil): exchange.end()
        case .success(let bytes?): if exchange.write(bytes) { next() }
        }
      }
    }
  }
}
