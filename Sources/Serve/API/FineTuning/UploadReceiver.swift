import Synchronization

/// The parts of one kind of upload: what they have to be, and what becomes of them.
///
/// A receiver calls all of it on its queue, but `tooLarge` on any thread.
protocol UploadParts: AnyObject, SendableMetatype {
  associatedtype Received: Sendable

  /// Most bytes of the parts' contents.
  var sizeLimit: Int { get }
  /// The answer to a body of more than `bodyLimit` bytes.
  func tooLarge(bodyLimit: Int) -> APIError
  /// The status of an answer to what the disk refuses.
  var storageFailureStatus: Int { get }

  func take(_ event: MultipartParser.Event) throws
  /// Called when every part has come.
  func finish() throws -> Received
  /// Lets go of what was begun: the upload failed, or the client went away.
  func abandon()
}

/// What all uploads share: the threads that write them, and how many may be under way.
final class UploadService: Sendable {
  /// A place among the uploads under way, given back when nobody holds it any more.
  final class Slot: Sendable {
    private let service: UploadService
    private let client: String

    fileprivate init(_ service: UploadService, _ client: String) {
      self.service = service
      self.client = client
    }

    deinit { service.end(client) }
  }

  let limit: Int
  fileprivate let pool: WorkerPool
  /// Uploads under way, by the address of their client.
  private let active = Mutex<[String: Int]>([:])

  /// - Parameter niceness: of the threads, 0...19: uploads give way to what computes
  init(limit: Int = 64, threads: Int = 4, niceness: Int32 = 10) {
    self.limit = limit
    pool = WorkerPool(label: "upload", threads: threads, niceness: niceness)
  }

  /// - Returns: `nil` where too many uploads are under way; one client has at most three quarters of the places
  func begin(_ client: String) -> Slot? {
    active.withLock { active in
      let count = active[client, default: 0]
      guard active.values.reduce(0, +) < limit, count < max(limit * 3 / 4, 1) else { return nil }
      active[client] = count + 1
      return Slot(self, client)
    }
  }

  private func end(_ client: String) {
    active.withLock { active in
      let count = active[client, default: 1] - 1
      active[client] = count > 0 ? count : nil
    }
  }

  var activeCount: Int { active.withLock { $0.values.reduce(0, +) } }
}

/// A multipart body on its way to the disk, no faster than the disk takes it.
///
/// `@unchecked Sendable`: `parser`, `parts` and `failure` are touched on `queue` alone, `slot`, `outstanding` and
/// `completion` on the loop.
final class UploadReceiver<Parts: UploadParts>: @unchecked Sendable {
  typealias Outcome = Result<Parts.Received, APIError>

  private let exchange: HTTPExchange
  private let service: UploadService
  /// Disks may be slow: files are written here, in the order of the pieces.
  private let queue: SerialLane
  /// Taken when the first byte comes, so that connections which send none take no place.
  private var slot: UploadService.Slot?
  private let parts: Parts
  private var parser: MultipartParser
  private var failure: APIError?

  private var outstanding = 0
  /// `nil` when it has been called, or nobody is there to be answered.
  private var completion: ((Outcome) -> Void)?

  /// Bytes that may wait to be written before the client has to wait.
  private static var highWatermark: Int { 4 << 20 }
  private static var lowWatermark: Int { 1 << 20 }
  /// What multipart's own lines may add to the parts.
  private static var allowance: Int { 1 << 20 }

  /// - Throws: the answer to a body that is not multipart/form-data
  init(_ exchange: HTTPExchange, _ parts: Parts, _ service: UploadService) throws(APIError) {
    do throws(MultipartError) {
      parser = try MultipartParser(contentType: exchange.request.headers["content-type"] ?? "")
    } catch { throw .invalid(error.reason, code: "invalid_multipart", status: 415) }
    self.exchange = exchange
    self.parts = parts
    self.service = service
    queue = SerialLane(service.pool)
  }

  /// Reads the body. `then` is called once, on the loop, unless the client goes away before the body's end.
  func receive(then: @escaping (Outcome) -> Void) {
    completion = then
    exchange.streamBody(limit: parts.sizeLimit + Self.allowance) { [self] in
      take($0)
    } onEnd: { [self] result in
      switch result {
      case .success:
        queue.async { [self] in
          let outcome = finish()
          exchange.loop.execute { [self] in end(outcome) }
        }
      case .failure(.tooLarge(let limit)): end(.failure(parts.tooLarge(bodyLimit: limit)))
      case .failure:  // answered, or nobody to answer
        completion = nil
        abandon()
      }
    }
  }

  // MARK: on the loop

  private func take(_ bytes: UnsafeRawBufferPointer) {
    guard completion != nil else { return }
    if slot == nil {
      guard let free = service.begin(exchange.request.remoteAddress) else {
        var error = APIError.plain(
          status: 503, message: "\(service.activeCount) uploads are under way; try again later")
        error.retryAfter = 1
        return end(.failure(error))
      }
      slot = free
    }
    let piece = Array(bytes)
    outstanding += piece.count
    if outstanding >= Self.highWatermark { exchange.pauseBody() }
    queue.async { [self] in
      let failure = feed(piece)
      exchange.loop.execute { [self] in
        outstanding -= piece.count
        if outstanding <= Self.lowWatermark { exchange.resumeBody() }
        if let failure { end(.failure(failure)) }
      }
    }
  }

  private func end(_ outcome: Outcome) {
    guard let completion else { return }
    self.completion = nil
    guard case .failure = outcome, slot != nil else { return completion(outcome) }
    // The answer comes when nothing of the upload is left.
    let complete = LoopBound(completion, on: exchange.loop)
    abandon { [exchange] in exchange.loop.execute { complete.value(outcome) } }
  }

  private func abandon(then: @escaping @Sendable () -> Void = {}) {
    queue.async { [self] in
      failure = failure ?? .plain(status: 400, message: "the upload was given up")
      parts.abandon()
      then()
    }
  }

  // MARK: on the queue

  /// - Returns: the failure, if this piece is the first to fail
  private func feed(_ piece: [UInt8]) -> APIError? {
    if failure != nil { return nil }
    do { try piece.withUnsafeBytes { try parser.feed($0, parts.take) } } catch { failure = apiError(error) }
    return failure
  }

  private func finish() -> Outcome {
    if let failure { return .failure(failure) }
    do {
      try parser.finish()
      return .success(try parts.finish())
    } catch { return .failure(apiError(error)) }
  }

  private func apiError(_ error: any Error) -> APIError {
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
