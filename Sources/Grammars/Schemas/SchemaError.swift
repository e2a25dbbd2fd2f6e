/// Why a JSON Schema cannot become a grammar: what is wrong or not supported, and where in the schema.
public struct SchemaError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The JSON pointer to the keyword or schema, as "#/properties/a/pattern".
  public let path: String
  /// What is wrong, in words that name the keyword.
  public let reason: String

  init(_ path: String, _ reason: String) {
    self.path = path
    self.reason = reason
  }

  /// "#/properties/a/pattern: …"
  public var description: String { "\(path): \(reason)" }
}
