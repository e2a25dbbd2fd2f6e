import Foundation
import Model

/// A file on its way from a multipart body to the data folder: `file` and `purpose`.
///
/// `@unchecked Sendable`: `parser` to `failure` are touched on `queue` alone, `outstanding` and `isOver` on the loop.
final class FileUpload: @unchecked Sendable {
  private let store: FileStore
  /// Disks may be slow: the file is written here, in the order of the pieces.
  private let queue = DispatchQueue(label: "file upload")
  private var parser: MultipartParser
  private let id = FileStore.makeID()
  private var file: AtomicFile?
  private var filename: String?
  private var bytes = 0
  private var field: (name: String, value: [UInt8])?
  private var fields: [String: String] = [:]
  private var failure: APIError?

  private var outstanding = 0
  private var isOver = false

  private static let purposes = ["fine-tune", "fine-tune-results"]
  private static let longestField = 1024
  /// Bytes that may wait to be written before the client has to wait.
  private static let highWatermark = 4 << 20
  private static let lowWatermark = 1 << 20

  init(parser: MultipartParser, store: FileStore) {
    self.parser = parser
    self.store = store
  }

  /// Reads the body. `then` is called once, on the loop, when the file is durable; not if the client goes away before.
  func receive(_ exchange: HTTPExchange, then: @escaping (Result<StoredFile, APIError>) -> Void) {
    let loop = exchange.loop
    // Made and called on the loop; the queue only carries it there.
    nonisolated(unsafe) let end = { [self] (result: Result<StoredFile, APIError>) in
      guard !isOver else { return }
      isOver = true
      if case .failure = result { abandon() }
      then(result)
    }
    // Multipart's own lines come on top of the file.
    exchange.streamBody(limit: store.sizeLimit + (1 << 20)) { [self] bytes in
      guard !isOver else { return }
      let piece = Array(bytes)
      outstanding += piece.count
      if outstanding >= Self.highWatermark { exchange.pauseBody() }
      queue.async { [self] in
        let failure = take(piece)
        loop.execute { [self] in
          outstanding -= piece.count
          if outstanding <= Self.lowWatermark { exchange.resumeBody() }
          if let failure { end(.failure(failure)) }
        }
      }
    } onEnd: { [self] result in
      switch result {
      case .success:
        queue.async { [self] in
          let outcome = Result { () throws(APIError) in try finish() }
          loop.execute { end(outcome) }
        }
      case .failure(.tooLarge): end(.failure(tooLarge))
      case .failure:  // answered, or nobody to answer
        isOver = true
        abandon()
      }
    }
  }

  private var tooLarge: APIError { .plain(status: 413, message: "The file is over \(store.sizeLimit) bytes") }

  private func abandon() {
    queue.async { [self] in
      failure = failure ?? .plain(status: 400, message: "the upload was given up")
      file = nil
    }
  }

  // MARK: on the queue

  private func take(_ piece: [UInt8]) -> APIError? {
    if failure != nil { return nil }
    do { try piece.withUnsafeBytes { try parser.feed($0, handle) } } catch { failure = apiError(error) }
    return failure
  }

  private func handle(_ event: MultipartParser.Event) throws {
    switch event {
    case .began(let part):
      if part.name == "file" {
        guard filename == nil else { throw APIError.invalid("'file' is sent twice", param: "file") }
        filename = part.lastPathComponent.flatMap { $0.isEmpty ? nil : String($0.prefix(255)) } ?? "file"
        file = try AtomicFile(store.location(id))
      } else {
        field = (part.name, [])
      }
    case .bytes(let piece):
      if let file, field == nil {
        bytes += piece.count
        guard bytes <= store.sizeLimit else { throw tooLarge }
        return try file.write(piece)
      }
      guard let name = field?.name, (field?.value.count ?? 0) + piece.count <= Self.longestField else {
        throw APIError.invalid("the part '\(field?.name ?? "")' is too long", param: field?.name, code: "invalid_value")
      }
      field = (name, (field?.value ?? []) + Array(piece))
    case .ended:
      if let (name, value) = field {
        guard let text = String(validating: value, as: UTF8.self), fields.updateValue(text, forKey: name) == nil else {
          throw APIError.invalid("the part '\(name)' is no text, or sent twice", param: name, code: "invalid_value")
        }
        field = nil
      }
    }
  }

  private func finish() throws(APIError) -> StoredFile {
    if let failure { throw failure }
    do throws(MultipartError) { try parser.finish() } catch { throw apiError(error) }
    guard let file, let filename else {
      throw .invalid("'file' is missing", param: "file", code: "missing_required_parameter")
    }
    guard let purpose = fields["purpose"] else {
      throw .invalid("'purpose' is missing", param: "purpose", code: "missing_required_parameter")
    }
    guard Self.purposes.contains(purpose) else {
      throw .invalid(
        "'\(purpose.prefix(40))' is not one of \(Self.purposes.map { "'\($0)'" }.joined(separator: ", "))",
        param: "purpose", code: "invalid_value")
    }
    if let other = fields.keys.filter({ $0 != "purpose" }).min() {
      throw .invalid(
        "'\(other)' is not supported by this server", param: other, code: "unsupported_parameter")
    }
    let stored = StoredFile(
      id: id, bytes: bytes, createdAt: FineTuningService.now, filename: filename, purpose: purpose)
    do {
      try file.finish()
      self.file = nil
      try store.add(stored)
    } catch { throw apiError(error) }
    return stored
  }

  private func apiError(_ error: any Error) -> APIError {
    switch error {
    case let error as APIError: error
    case let error as MultipartError:
      .invalid("The multipart body is malformed: \(error.reason)", code: "invalid_multipart")
    default: APIError(status: 507, type: "server_error", message: "\(error)", param: nil, code: "storage_failed")
    }
  }
}
