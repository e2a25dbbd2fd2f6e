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

extension CompilationBudget {
  /// Runs work, with an error that names a place in the schema if the budget does not suffice.
  func at<Result>(
    _ path: @autoclosure () -> String, _ work: (CompilationBudget) throws(Exceeded) -> Result
  ) throws(SchemaError) -> Result {
    do throws(Exceeded) { return try work(self) } catch { throw SchemaError(path(), error.description) }
  }

  /// Counts work, with an error that names a place in the schema if the budget does not suffice.
  func spend(_ units: Int, at path: @autoclosure () -> String) throws(SchemaError) {
    try at(path()) { (budget) throws(Exceeded) in try budget.spend(units) }
  }
}
