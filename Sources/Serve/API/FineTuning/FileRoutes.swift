import Formats
import Foundation
import Logging
import Model

/// OpenAI's files: `/v1/files`.
struct FileRoutes: Sendable {
  let store: FileStore
  let logger: Logger
  let uploads: UploadService
  let pools: BlockingPools

  /// Maximum files of a page.
  static let maximumPage = 10_000

  func add(to router: inout Router) {
    router.on("POST", "v1/files") { (request) throws(APIError) in try upload(request) }
    router.on("GET", "v1/files", query: ["after", "limit", "order", "purpose"]) { (request) throws(APIError) in
      try list(request)
    }
    router.on("GET", "v1/files/{id}") { show($0) }
    router.on("GET", "v1/files/{id}/content") { content($0) }
    router.on("DELETE", "v1/files/{id}") { remove($0) }
  }

  private func upload(_ request: RoutedRequest) throws(APIError) {
    let exchange = request.exchange
    let logger = logger
    try UploadReceiver(request, FileUpload(store), uploads).receive { result in
      switch result {
      case .failure(let error): exchange.respond(error)
      case .success(let file):
        logger.info("file uploaded", metadata: ["id": .string(file.id), "bytes": "\(file.bytes)"])
        exchange.respond(json: Self.json(file))
      }
    }
  }

  private func list(_ request: RoutedRequest) throws(APIError) {
    let query = PageQuery(request.exchange)
    let limit = try query.limit(default: Self.maximumPage, maximum: Self.maximumPage)
    let order = query["order"] ?? "desc"
    guard order == "asc" || order == "desc" else {
      throw .invalid("'order' must be 'asc' or 'desc'", param: "order", code: "invalid_value")
    }
    let (after, purpose, database) = (query["after"], query["purpose"], store.database)
    request.exchange.respond(on: pools.reading) { () throws(APIError) in
      let page = try query.page {
        try database.files(purpose: purpose, newestFirst: order == "desc", after: after, limit: limit)
      }
      return PageQuery.json(page.elements.map(Self.json), hasMore: page.hasMore)
    }
  }

  private func show(_ request: RoutedRequest) {
    let id = request.captures["id"] ?? ""
    request.exchange.respond(on: pools.reading) { () throws(APIError) in Self.json(try find(id)) }
  }

  private func remove(_ request: RoutedRequest) {
    let id = request.captures["id"] ?? ""
    request.exchange.respond(on: pools.reading) { () throws(APIError) in
      do throws(FileStoreError) { try store.remove(id) } catch { throw Self.apiError(error) }
      logger.info("file deleted", metadata: ["id": .string(id)])
      return ["id": .string(id), "object": "file", "deleted": true]
    }
  }

  /// Answers with the file's bytes.
  private func content(_ request: RoutedRequest) {
    let exchange = request.exchange
    let id = request.captures["id"] ?? ""
    pools.reading.async { [pools] in
      let result = Result { () throws(APIError) in
        let file = try find(id)
        do {
          // The announced length is that of the record, so that a file which was shortened is noticed.
          return StoredFileReader(try FileHandle(forReadingFrom: store.location(id)), length: file.bytes)
        } catch {
          throw Self.apiError(.storage("the contents of \(id) cannot be read"))
        }
      }
      exchange.loop.execute {
        switch result {
        case .failure(let error): exchange.respond(error)
        case .success(let reader):
          StreamedBody(reader, to: exchange, on: pools.reading) { error in
            logger.error("a download was broken off", metadata: ["id": .string(id), "reason": "\(error)"])
          }
          .start(headers: ["Content-Type": "application/octet-stream"], length: reader.left)
        }
      }
    }
  }

  private func find(_ id: String) throws(APIError) -> StoredFile {
    do throws(FileStoreError) { return try store.file(id) } catch { throw Self.apiError(error) }
  }

  private static func json(_ file: StoredFile) -> JSONValue {
    [
      "id": .string(file.id), "object": "file", "bytes": .integer(file.bytes), "created_at": .integer(file.createdAt),
      "filename": .string(file.filename), "purpose": .string(file.purpose), "status": "processed",
      "status_details": .null, "expires_at": .null,
    ]
  }

  private static func apiError(_ error: FileStoreError) -> APIError {
    switch error {
    case .unknown: .invalid("\(error)", param: "id", code: "not_found", status: 404)
    case .storage:
      APIError(status: 500, type: "server_error", message: "\(error)", param: nil, code: "storage_failed")
    }
  }
}

/// Reads a stored file chunk by chunk.
private struct StoredFileReader: BodySource {
  private struct EndsEarly: Error, CustomStringConvertible {
    var missing: Int
    var description: String { "it ends \(missing) bytes early" }
  }

  private let handle: FileHandle
  /// Bytes that are still to be read.
  private(set) var left: Int
  private static let chunkSize = 256 << 10

  init(_ handle: FileHandle, length: Int) {
    self.handle = handle
    left = length
  }

  /// - Throws: the system's error, or that the file is shorter than its record says
  mutating func next() throws -> [UInt8]? {
    guard left > 0 else { return nil }
    let bytes = try handle.read(upToCount: min(Self.chunkSize, left)).map { [UInt8]($0) } ?? []
    guard !bytes.isEmpty else { throw EndsEarly(missing: left) }
    left -= bytes.count
    return bytes
  }
}
