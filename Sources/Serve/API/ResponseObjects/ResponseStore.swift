import Formats
import Foundation

/// A response that can be read and continued.
struct StoredResponse: Sendable {
  var id: String
  /// Seconds since 1970.
  var createdAt: Int
  /// The response object.
  var response: JSONValue
  /// The request's own items.
  var input: [JSONValue]
  /// All items up to and with the response's output: what a response that continues this one begins with.
  var context: [JSONValue]
}

/// The responses that are kept for a time. The database has them.
public final class ResponseStore: Sendable {
  private let database: MetadataDatabase
  private let secondsKept: Int
  private let pool = WorkerPool(label: "responses", threads: 1)

  /// - Parameter daysKept: days after which a response is deleted; 0 keeps none
  public init(database: MetadataDatabase, daysKept: Int) {
    self.database = database
    secondsKept = daysKept * 86_400
    if !isOn { try? database.deleteResponses(before: .max) }
  }

  /// Whether responses are kept.
  var isOn: Bool { secondsKept > 0 }

  private var oldest: Int { Int(Date().timeIntervalSince1970) - secondsKept }

  /// Stores a response, and deletes those that are too old.
  /// - Parameter then: called when the response is on the disk, or with the reason why it is not
  func add(_ response: StoredResponse, then: @escaping @Sendable (APIError?) -> Void) {
    pool.async { [self] in
      do {
        try database.deleteResponses(before: oldest)
        try database.insert(response)
        then(nil)
      } catch { then(Self.failure(error)) }
    }
  }

  /// The response with an id, if it is kept. Waits for the disk.
  func find(_ id: String) throws(APIError) -> StoredResponse? {
    do { return try database.response(id).flatMap { $0.createdAt < oldest ? nil : $0 } } catch {
      throw Self.failure(error)
    }
  }

  /// Deletes a response. Waits for the disk.
  /// - Returns: whether there was one
  func remove(_ id: String) throws(APIError) -> Bool {
    do { return try database.deleteResponse(id) } catch { throw Self.failure(error) }
  }

  private static func failure(_ error: any Error) -> APIError {
    APIError(status: 500, type: "server_error", message: "\(error)", param: nil, code: "storage_failed")
  }
}
