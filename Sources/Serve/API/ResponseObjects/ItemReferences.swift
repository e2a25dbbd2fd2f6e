import Formats

/// The `item_reference` items of a request's input. Each stands for an item of a response that is kept.
struct ItemReferences {
  private let store: ResponseStore
  private let memory: MemoryShare
  /// The ids of all references of the request. Other items of the responses that are read are not kept.
  private let wanted: Set<String>
  /// The wanted items of the responses that were read so far, so that each response is read once.
  private var known: [String: JSONObject] = [:]
  /// The ids of items that the model is shown already.
  private var shown: Set<String>
  /// A short reference can name a long item, so the length of the body does not bound the items, nor the responses that
  /// are read for them.
  private var bytesLeft = StoredResponse.maximumContext
  private var bytesToRead = 4 * StoredResponse.maximumContext

  /// - Parameters:
  ///   - input: the request's
  ///   - earlier: the items of the conversation that the request continues
  ///   - memory: what the client may hold of the responses that are read
  init(_ input: JSONValue?, earlier: [JSONValue], store: ResponseStore, memory: MemoryShare) {
    self.store = store
    self.memory = memory
    wanted = Set(
      (input?.array ?? []).compactMap(\.object).filter(Self.isReference).compactMap { $0["id"]?.string })
    shown = Set(earlier.compactMap { $0.object?["id"]?.string })
  }

  /// Whether an item is a reference. Its type may be left out, as in OpenAI's API, where nothing but the id is there.
  static func isReference(_ item: JSONObject) -> Bool {
    if let type = item["type"], !type.isNull { return type == "item_reference" }
    return item["id"] != nil && item.pairs.allSatisfy { $0.key == "id" || $0.key == "type" }
  }

  /// The item that a reference names. Waits for the disk.
  /// - Parameter path: the reference's, for errors
  /// - Throws: `APIError`: 404 if no response that is kept has the item, 400 if the model is shown it already or if the items
  ///   are too long, 503 if there is no memory for them
  mutating func item(_ id: String, _ path: String) throws(APIError) -> JSONObject {
    guard shown.insert(id).inserted else {
      throw .invalid(
        "Duplicate item found with id '\(id.excerpt(80))'. Remove duplicate items from 'input' and try again.",
        param: "\(path).id", code: "invalid_value")
    }
    if known[id] == nil { try readResponse(with: id) }
    guard let object = known[id] else {
      throw .invalid(
        "Item with id '\(id.excerpt(80))' not found. Items of responses that expired, were deleted or had 'store' false are "
          + "not kept.", param: "\(path).type", code: "not_found", status: 404)
    }
    return object
  }

  /// Makes the wanted items of the response with an item known.
  private mutating func readResponse(with id: String) throws(APIError) {
    guard let response = try store.response(withItem: id) else { return }
    bytesToRead -= response.bytes
    guard bytesToRead >= 0 else {
      throw .invalid(
        "The responses that 'input' refers to have more than \(4 * StoredResponse.maximumContext) bytes; send the items "
          + "themselves", param: "input", code: "invalid_value")
    }
    let held = try memory.hold(response.bytes)
    defer { withExtendedLifetime(held) {} }
    for object in try store.items(of: response.id).compactMap(\.object) {
      guard let id = object["id"]?.string, wanted.contains(id), known[id] == nil else { continue }
      bytesLeft -= JSONValue.object(object).encoded.count
      guard bytesLeft >= 0 else {
        throw .invalid(
          "The items that 'input' refers to have more than \(StoredResponse.maximumContext) bytes", param: "input",
          code: "context_length_exceeded")
      }
      known[id] = object
    }
  }
}
