import Dispatch
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

  /// The items that the model has written.
  var output: [JSONValue] { Self.output(of: response) }

  fileprivate static func output(of response: JSONValue) -> [JSONValue] { response.object?["output"]?.array ?? [] }

  /// What can be read alone. The raw value is the database's column.
  enum Part: String { case response, input, context }

  /// Maximum bytes of a response's context, as JSON: as much as a request's body may have. Each response has its context on
  /// the disk, so without a limit a long conversation would take space with the square of its length.
  static let maximumContext = 16 << 20
}

/// The responses that are kept for a time. The database has them.
public final class ResponseStore: Sendable {
  private let database: MetadataDatabase
  private let secondsKept: Int
  private let maximumBytes: Int
  private let pool = WorkerPool(label: "responses", threads: 1)

  /// Deletes the responses that are too old or too many, now and every hour.
  /// - Parameters:
  ///   - daysKept: days after which a response is deleted; 0 keeps none
  ///   - maximumBytes: of all responses that are kept. Where they have more, the oldest are deleted.
  public init(database: MetadataDatabase, daysKept: Int, maximumBytes: Int = 4 << 30) {
    self.database = database
    self.maximumBytes = maximumBytes
    secondsKept = daysKept * 86_400
    sweep()
    sweepLater()
  }

  private func sweep() {
    try? database.deleteResponses(before: isOn ? oldest : .max)
    try? database.deleteOldestResponses(above: maximumBytes)
  }

  /// What is too old is not found before that already, but should not stay on the disk where no further response is stored.
  private func sweepLater() {
    DispatchQueue.global(qos: .utility).asyncAfter(deadline: .now() + .seconds(3600)) { [weak self] in
      guard let self else { return }
      pool.async { [weak self] in self?.sweep() }
      sweepLater()
    }
  }

  /// Whether responses are kept.
  var isOn: Bool { secondsKept > 0 }

  private var oldest: Int { Int(Date().timeIntervalSince1970) - secondsKept }

  /// Stores a response, and deletes those that are too old, and the oldest where there is no room. A response that is larger
  /// than the room for all is not kept.
  /// - Parameter then: called when the response is on the disk, or with the reason why it is not
  func add(_ response: StoredResponse, then: @escaping @Sendable (APIError?) -> Void) {
    pool.async { [self] in
      do {
        try database.deleteResponses(before: oldest)
        try database.insert(response, within: maximumBytes)
        then(nil)
      } catch { then(Self.failure(error)) }
    }
  }

  /// A part of a response; `nil` if the response is not kept. Waits for the disk.
  func read(_ part: StoredResponse.Part, of id: String) throws(APIError) -> JSONValue? {
    do { return try database.responsePart(part, of: id, oldest: oldest) } catch { throw Self.failure(error) }
  }

  /// How many bytes a part of a response has; `nil` if the response is not kept. Waits for the disk.
  private func size(_ part: StoredResponse.Part, of id: String) throws(APIError) -> Int? {
    do { return try database.sizeOfResponsePart(part, of: id, oldest: oldest) } catch { throw Self.failure(error) }
  }

  /// The items that a response which continues this one begins with; `nil` if the response is not kept. Waits for the disk.
  /// - Throws: `APIError`: 503 if there is no memory for them
  func readContext(
    of id: String, holding memory: MemoryShare
  ) throws(APIError) -> (items: [JSONValue], memory: HeldMemory)? {
    guard let bytes = try size(.context, of: id) else { return nil }
    let held = try memory.hold(bytes)
    guard let items = try read(.context, of: id)?.array else { return nil }
    return (items, held)
  }

  /// The newest response that has an item; `nil` if none that is kept has it. Waits for the disk.
  /// - Parameter item: its id
  /// - Returns: the response's id, and how many bytes are read to have its items
  func response(withItem item: String) throws(APIError) -> (id: String, bytes: Int)? {
    let response: String?
    do { response = try database.response(withItem: item, oldest: oldest) } catch { throw Self.failure(error) }
    guard let response else { return nil }
    return (response, (try size(.input, of: response) ?? 0) + (try size(.response, of: response) ?? 0))
  }

  /// The items of the input and the output of a response. Waits for the disk.
  func items(of response: String) throws(APIError) -> [JSONValue] {
    let input = try read(.input, of: response)?.array ?? []
    return input + (try read(.response, of: response).map(StoredResponse.output(of:)) ?? [])
  }

  /// Deletes a response. Waits for the disk.
  /// - Returns: whether there was one
  func remove(_ id: String) throws(APIError) -> Bool {
    do { return try database.deleteResponse(id, oldest: oldest) } catch { throw Self.failure(error) }
  }

  private static func failure(_ error: any Error) -> APIError {
    APIError(status: 500, type: "server_error", message: "\(error)", param: nil, code: "storage_failed")
  }
}
