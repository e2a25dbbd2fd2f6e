import Formats

extension RequestFields {
  private static let maximumMetadata = 16

  /// `metadata`: texts that the client attaches.
  func metadata() throws(APIError) -> JSONObject? {
    guard let value = self["metadata"] else { return nil }
    guard let object = value.object, object.keys.count <= Self.maximumMetadata,
      object.pairs.allSatisfy({ $0.key.count <= 64 && ($0.value.string?.count ?? .max) <= 512 })
    else {
      throw .invalid(
        "'metadata' must have at most \(Self.maximumMetadata) keys of up to 64 characters with strings of up to 512",
        param: "metadata", code: "invalid_value")
    }
    return object
  }
}
