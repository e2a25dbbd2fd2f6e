/// Identifies a request in the engine.
public struct GenerationID: Hashable, Sendable {
  let value: UInt64

  /// The id that is returned for a refused request. No request in the engine has it.
  static let refused = GenerationID(value: 0)
}
