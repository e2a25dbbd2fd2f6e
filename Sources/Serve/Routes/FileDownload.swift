import Dispatch

/// Sends so many bytes, a piece whenever the client has taken the last. Where they cannot all be read the connection is
/// dropped: a client must not take what it has for all there is.
///
/// `@unchecked Sendable`: everything happens on the loop but the reading of a piece, during which nothing else does.
final class FileDownload: @unchecked Sendable {
  private let exchange: HTTPExchange
  private let queue: DispatchQueue
  private let read: (Int) throws -> [UInt8]
  private let onFailure: (String) -> Void
  /// What is still to be read.
  private var left: Int
  private static let piece = 256 << 10

  /// - Parameters:
  ///   - length: of the whole body
  ///   - queue: where `read` is called
  ///   - read: the bytes that come next, at most so many; none at the end
  ///   - onFailure: called on the loop with the reason when the download is broken off
  init(
    length: Int, _ exchange: HTTPExchange, _ queue: DispatchQueue, read: @escaping (Int) throws -> [UInt8],
    onFailure: @escaping (String) -> Void
  ) {
    left = length
    self.exchange = exchange
    self.queue = queue
    self.read = read
    self.onFailure = onFailure
  }

  func start() {
    exchange.startStreaming(status: 200, headers: ["Content-Type": "application/octet-stream"], length: left)
    exchange.onDrain { [self] in next() }
    next()
  }

  private func next() {
    guard left > 0, exchange.request.method != "HEAD" else { return exchange.end() }
    queue.async { [self] in
      let result = Result { try read(min(Self.piece, left)) }
      exchange.loop.execute { [self] in send(result) }
    }
  }

  private func send(_ result: Result<[UInt8], any Error>) {
    guard !exchange.isClosed, !exchange.isEnded else { return }
    switch result {
    case .success(let bytes) where !bytes.isEmpty:
      left -= bytes.count
      if exchange.write(bytes) { next() }
    case .success: breakOff("it ends \(left) bytes early")
    case .failure(let error): breakOff("\(error)")
    }
  }

  private func breakOff(_ reason: String) {
    onFailure(reason)
    exchange.abort()
  }
}
