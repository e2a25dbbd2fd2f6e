/// Identifies a request in the engine.
public struct GenerationID: Hashable, Sendable {
  let value: UInt64

  /// Of a request that was refused. No request has it.
  static let refused = GenerationID(value: 0)
}
