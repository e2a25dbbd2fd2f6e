/// Who sends a request: one value, made when the request is authenticated. Fairness between clients goes by it.
public struct ClientIdentity: Hashable, Sendable {
  /// Names the verified key; `nil` where no keys are checked.
  public var key: String?
  /// The peer's numeric address.
  public var address: String

  public init(key: String? = nil, address: String = "") {
    self.key = key
    self.address = address
  }
}
