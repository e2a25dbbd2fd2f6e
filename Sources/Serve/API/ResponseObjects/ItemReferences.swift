import Formats

/// The `item_reference` items of a request's input. Each stands for an item of a response that is kept.
struct ItemReferences {
  private let store: ResponseStore
  /// The items of the responses that were read so far, so that each response is read once.
  private var known: [String: JSONObject] = [:]
  /// The ids of items that the model is shown already.
  private var shown: Set<String>
  /// A short reference can name a long item, so the length of the body does not bound the items.
  private var bytesLeft = StoredResponse.maximumContext

  /// - Parameter earlier: the items of the conversation that the request continues
  init(store: ResponseStore, earlier: [JSONValue]) {
    self.store = store
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
  ///   are too long
  mutating func item(_ id: String, _ path: String) throws(APIError) -> JSONObject {
    guard shown.insert(id).inserted else {
      throw .invalid(
        "Duplicate item found with id '\(id.excerpt(80))'. Remove duplicate items from 'input' and try again.",
        param: "\(path).id", code: "invalid_value")
    }
    if known[id] == nil {
      for object in try store.items(besides: id).compactMap(\.object) {
        if let id = object["id"]?.string { known[id] = object }
      }
    }
    guard let object = known[id] else {
      throw .invalid(
        "Item with id '\(id.excerpt(80))' not found. Items of responses that expired, were deleted or had 'store' false are "
          + "not kept.", param: "\(path).type", code: "not_found", status: 404)
    }
    bytesLeft -= JSONValue.object(object).encoded.count
    guard bytesLeft >= 0 else {
      throw .invalid(
        "The items that 'input' refers to have more than \(StoredResponse.maximumContext) bytes", param: "input",
        code: "context_length_exceeded")
    }
    return object
  }
}
