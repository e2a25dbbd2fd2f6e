/// Who sent a request. The router makes it when it checks the API key; admission, scheduling and uploads treat equal values
/// as one client.
public struct ClientIdentity: Hashable, Sendable {
  /// The name of the verified key; `nil` where the server has no keys.
  public var key: String?
  /// The peer's numeric address.
  public var address: String

  /// Whether the requests only use the time that the other clients' requests leave.
  public var isBackground = false

  /// - Parameters: as the properties
  public init(key: String? = nil, address: String = "") {
    self.key = key
    self.address = address
  }

  /// The sender of the lines of all batches.
  static let batches: ClientIdentity = {
    var client = ClientIdentity(address: "batches")
    client.isBackground = true
    return client
  }()
}
