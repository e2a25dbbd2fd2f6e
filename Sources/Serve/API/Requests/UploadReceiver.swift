import Formats
import Synchronization

/// Receives a multipart body and writes it, no faster than the disk allows. Used on the exchange's loop only;
/// `UploadWriter` writes on a `SerialLane` of the uploads' threads.
final class UploadReceiver<Parts: UploadParts> {
  typealias Outcome = Result<Parts.Received, APIError>

  private let exchange: HTTPExchange
  private let client: ClientIdentity
  private let service: UploadService
  /// Reserved with the first byte, so that connections which send nothing do not count as uploads.
  private var slot: UploadService.Slot?
  private let lane: SerialLane
  private let writer: UploadWriter<Parts>
  private let sizeLimit: Int
  /// Bytes that the lane has not written yet.
  private var outstanding = 0
  /// `nil` once it was called, and if the client has left.
  private var completion: ((Outcome) -> Void)?

  /// Outstanding bytes at which the body is paused, and at which it continues.
  private static var highWatermark: Int { 4 << 20 }
  private static var lowWatermark: Int { 1 << 20 }
  /// The maximum bytes that the multipart format adds to the contents.
  private static var formatAllowance: Int { 1 << 20 }

  /// - Throws: the answer to a body that is not multipart/form-data
  init(_ request: RoutedRequest, _ parts: sending Parts, _ service: UploadService) throws(APIError) {
    let parser: MultipartParser
    do throws(MultipartError) {
      parser = try MultipartParser(contentType: request.exchange.request.headers["content-type"] ?? "")
    } catch { throw .invalid(error.reason, code: "invalid_multipart", status: 415) }
    exchange = request.exchange
    client = request.client
    self.service = service
    sizeLimit = parts.sizeLimit
    lane = SerialLane(service.pool)
    writer = UploadWriter(parser, parts)
  }

  /// Reads the body. `then` is called once, on the loop, unless the client leaves before the body's end.
  func receive(then: @escaping (Outcome) -> Void) {
    completion = then
    let (loop, receiver) = (exchange.loop, LoopBound(self, on: exchange.loop))
    exchange.streamBody(limit: sizeLimit + Self.formatAllowance) { [self] in
      take($0)
    } onEnd: { [self] result in
      switch result {
      case .success:
        lane.async { [writer] in
          let outcome = writer.finish()
          loop.execute { receiver.value.end(outcome) }
        }
      case .failure(.tooLarge(let limit)): end(.failure(writer.tooLarge(bodyLimit: limit)))
      case .failure:  // answered already, or there is nobody to be answered
        completion = nil
        abandon {}
      }
    }
  }

  private func take(_ bytes: UnsafeRawBufferPointer) {
    guard completion != nil else { return }
    if slot == nil {
      guard let free = service.begin(client) else {
        var error = APIError.plain(
          status: 503, message: "\(service.activeCount) uploads are under way; try again later")
        error.retryAfter = 1
        return end(.failure(error))
      }
      slot = free
    }
    let chunk = Array(bytes)
    outstanding += chunk.count
    if outstanding >= Self.highWatermark { exchange.pauseBody() }
    let (loop, receiver) = (exchange.loop, LoopBound(self, on: exchange.loop))
    lane.async { [writer] in
      let failure = writer.write(chunk)
      loop.execute { receiver.value.written(chunk.count, failure) }
    }
  }

  private func written(_ count: Int, _ failure: APIError?) {
    outstanding -= count
    if outstanding <= Self.lowWatermark { exchange.resumeBody() }
    if let failure { end(.failure(failure)) }
  }

  private func end(_ outcome: Outcome) {
    guard let completion else { return }
    self.completion = nil
    // A client that has its answer has its place back, so the place is given back first.
    guard case .failure = outcome, slot != nil else {
      slot = nil
      return completion(outcome)
    }
    // The answer is sent after everything of the upload was removed.
    let (loop, receiver) = (exchange.loop, LoopBound(self, on: exchange.loop))
    let complete = LoopBound(completion, on: exchange.loop)
    abandon {
      loop.execute {
        receiver.value.slot = nil
        complete.value(outcome)
      }
    }
  }

  private func abandon(then: @escaping @Sendable () -> Void) {
    lane.async { [writer] in
      writer.abandon()
      then()
    }
  }
}

/// Parses and writes an upload's body, a chunk at a time.
private final class UploadWriter<Parts: UploadParts>: Sendable {
  private struct State {
    var parser: MultipartParser
    let parts: Parts
    var failure: APIError?
  }

  private let state: Mutex<State>

  init(_ parser: MultipartParser, _ parts: sending Parts) { state = Mutex(State(parser: parser, parts: parts)) }

  func tooLarge(bodyLimit: Int) -> APIError { state.withLock { $0.parts.tooLarge(bodyLimit: bodyLimit) } }

  /// - Returns: the failure, if this chunk is the first to fail
  func write(_ chunk: [UInt8]) -> APIError? {
    state.withLock { state in
      if state.failure != nil { return nil }
      do { try chunk.withUnsafeBytes { try state.parser.feed($0, state.parts.take) } } catch {
        state.failure = Self.apiError(error, state.parts)
      }
      return state.failure
    }
  }

  func finish() -> Result<Parts.Received, APIError> {
    state.withLock { state in
      if let failure = state.failure { return .failure(failure) }
      do {
        try state.parser.finish()
        return .success(try state.parts.finish())
      } catch { return .failure(Self.apiError(error, state.parts)) }
    }
  }

  /// Removes what was written.
  func abandon() {
    state.withLock { state in
      state.failure = state.failure ?? .plain(status: 400, message: "the upload was given up")
      state.parts.abandon()
    }
  }

  private static func apiError(_ error: any Error, _ parts: Parts) -> APIError {
    switch error {
    case let error as APIError: error
    case let error as MultipartError:
      .invalid("The multipart body is malformed: \(error.reason)", code: "invalid_multipart")
    default:
      APIError(
        status: parts.storageFailureStatus, type: "server_error", message: "\(error)", param: nil,
        code: "storage_failed")
    }
  }
}
