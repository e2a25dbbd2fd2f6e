import Formats
import Synchronization

/// What distinguishes one kind of upload: which parts it has, and what is done with them. Used on an upload's lane.
protocol UploadParts: AnyObject, SendableMetatype {
  associatedtype Received: Sendable

  /// Maximum bytes of the parts' contents.
  var sizeLimit: Int { get }
  /// The answer to a body of more than `bodyLimit` bytes.
  func tooLarge(bodyLimit: Int) -> APIError
  /// The status of the answer when the disk cannot be written.
  var storageFailureStatus: Int { get }

  /// Receives the beginning, some bytes or the end of a part.
  func take(_ event: MultipartParser.Event) throws
  /// Called when every part was received completely.
  func finish() throws -> Received
  /// Removes what was written, because the upload failed or the client left.
  func abandon()
}

/// What all uploads share: the threads that write them, and the limit on their number.
final class UploadService: Sendable {
  /// Counts an upload for as long as the slot exists.
  final class Slot: Sendable {
    private let service: UploadService
    private let client: ClientIdentity

    fileprivate init(_ service: UploadService, _ client: ClientIdentity) {
      self.service = service
      self.client = client
    }

    deinit { service.end(client) }
  }

  let limit: Int
  let pool: WorkerPool
  /// The number of present uploads of each client.
  private let active = Mutex<[ClientIdentity: Int]>([:])

  /// - Parameters:
  ///   - limit: maximum uploads at once
  ///   - niceness: the threads' Linux nice value, 0...19, so that they yield to those that compute
  init(limit: Int = 64, threads: Int = 4, niceness: Int32 = 10) {
    self.limit = limit
    pool = WorkerPool(label: "upload", threads: threads, niceness: niceness)
  }

  /// Counts an upload.
  /// - Returns: `nil` where there are too many; one client has at most three quarters of the limit
  func begin(_ client: ClientIdentity) -> Slot? {
    active.withLock { active in
      let count = active[client, default: 0]
      guard active.values.reduce(0, +) < limit, count < max(limit * 3 / 4, 1) else { return nil }
      active[client] = count + 1
      return Slot(self, client)
    }
  }

  private func end(_ client: ClientIdentity) {
    active.withLock { active in
      let count = active[client, default: 1] - 1
      active[client] = count > 0 ? count : nil
    }
  }

  /// The number of present uploads.
  var activeCount: Int { active.withLock { $0.values.reduce(0, +) } }
}
