/// Why a request to a server failed, in one line that says what to do.
public struct ClientError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The line, without the program's name.
  public let description: String
  /// The reply's status; `nil` if there was no reply.
  public let status: Int?

  /// - Parameters: as the properties
  public init(_ description: String, status: Int? = nil) {
    self.description = description
    self.status = status
  }
}
