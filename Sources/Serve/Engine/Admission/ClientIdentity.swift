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
  static let batches = background("batches")
  /// The sender of the prompts that checkpoints of fine-tuning jobs are asked.
  static let samples = background("samples")

  private static func background(_ name: String) -> ClientIdentity {
    var client = ClientIdentity(address: name)
    client.isBackground = true
    return client
  }
}
