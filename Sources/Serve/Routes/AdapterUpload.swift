import Foundation
import Model

/// An adapter's two files on their way from a multipart body to a staged folder of the data folder.
///
/// `@unchecked Sendable`: `parser` to `failure` are touched on `queue` alone, `outstanding` and `isOver` on the loop.
final class AdapterUpload: @unchecked Sendable {
  struct Received: Sendable {
    var folder: URL
    var pinned: Bool?
  }

  private let contents: AdapterContents
  /// Disks may be slow: files are written here, in the order of the pieces.
  private let queue = DispatchQueue(label: "adapter upload")
  private var parser: MultipartParser
  private var folder: URL?
  private var file: AtomicFile?
  private var received: Set<String> = []
  private var field: (name: String, value: [UInt8])?
  private var pinned: Bool?
  private var failure: APIError?

  private var outstanding = 0
  private var isOver = false

  /// Bytes that may wait to be written before the client has to wait.
  private static let highWatermark = 4 << 20
  private static let lowWatermark = 1 << 20

  init(parser: MultipartParser, contents: AdapterContents) {
    self.parser = parser
    self.contents = contents
  }

  /// Reads the body. `then` is called once, on the loop, unless the client goes away; the folder is then the caller's
  /// to remove.
  func receive(_ exchange: HTTPExchange, then: @escaping (Result<Received, APIError>) -> Void) {
    let loop = exchange.loop
    // Made and called on the loop; the queue only carries it there.
    nonisolated(unsafe) let end = { [self] (result: Result<Received, APIError>) in
      guard !isOver else {
        if case .success(let received) = result { contents.discard(received.folder) }
        return abandon()
      }
      isOver = true
      if case .failure = result { abandon() }
      then(result)
    }
    // Multipart's own lines come on top of the files.
    exchange.streamBody(limit: contents.sizeLimit + (1 << 20)) { [self] bytes in
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
          let outcome = finish()
          loop.execute { end(outcome) }
        }
      case .failure(.tooLarge(let limit)):
        end(.failure(.plain(status: 413, message: "The request body is over \(limit) bytes")))
      case .failure:  // answered, or nobody to answer
        isOver = true
        abandon()
      }
    }
  }

  private func abandon() {
    queue.async { [self] in
      failure = failure ?? .plain(status: 400, message: "the upload was given up")
      file = nil
      if let folder { contents.discard(folder) }
      folder = nil
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
    case .began(let part): try begin(part)
    case .bytes(let bytes):
      if let file { return try file.write(bytes) }
      guard (field?.value.count ?? 0) + bytes.count <= 64 else {
        throw APIError.invalid("the part 'pinned' must be true or false", param: "pinned", code: "invalid_value")
      }
      field?.value += Array(bytes)
    case .ended:
      try file?.finish()
      file = nil
      guard let text = field.map({ String(decoding: $0.value, as: UTF8.self) }) else { return }
      guard text == "true" || text == "false" else {
        throw APIError.invalid("the part 'pinned' must be true or false", param: "pinned", code: "invalid_value")
      }
      pinned = text == "true"
      field = nil
    }
  }

  private func begin(_ part: MultipartPart) throws {
    if part.filename == nil, part.name == "pinned" {
      field = (part.name, [])
      return
    }
    let candidates = [part.lastPathComponent, part.name].compactMap(\.self)
    guard let name = candidates.first(where: AdapterContents.fileNames.contains) else {
      throw APIError.invalid(
        "the part '\(part.filename ?? part.name)' is neither \(AdapterContents.fileNames.joined(separator: " nor "))",
        param: part.name, code: "invalid_value")
    }
    guard received.insert(name).inserted else {
      throw APIError.invalid("\(name) is sent twice", param: part.name, code: "invalid_value")
    }
    if folder == nil { folder = try contents.makeStaging() }
    guard let folder else { return }
    file = try AtomicFile(folder.appending(path: name))
  }

  private func finish() -> Result<Received, APIError> {
    if let failure { return .failure(failure) }
    do throws(MultipartError) { try parser.finish() } catch { return .failure(apiError(error)) }
    for name in AdapterContents.fileNames where !received.contains(name) {
      return .failure(.invalid("\(name) is missing", param: name, code: "missing_required_parameter"))
    }
    guard let folder else { return .failure(.plain(status: 400, message: "nothing was sent")) }
    self.folder = nil
    return .success(Received(folder: folder, pinned: pinned))
  }

  private func apiError(_ error: any Error) -> APIError {
    switch error {
    case let error as APIError: error
    case let error as MultipartError:
      .invalid("The multipart body is malformed: \(error.reason)", code: "invalid_multipart")
    default: APIError(status: 500, type: "server_error", message: "\(error)", param: nil, code: "storage_failed")
    }
  }
}
