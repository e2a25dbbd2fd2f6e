/// What is wrong with a file, a configuration, a field or a tensor, in one line that names it.
public struct ModelError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The file, or the file and the tensor or field inside it, most general first.
  public let subject: [String]
  /// What is wrong, in words that follow the subject.
  public let reason: String

  /// - Parameter subject: most general first
  public init(_ subject: String..., reason: String) {
    self.subject = subject
    self.reason = reason
  }

  /// "model.safetensors: model.norm.weight: shape [5] instead of [576]"
  public var description: String { (subject + [reason]).joined(separator: ": ") }
}
