/// The function of a feed-forward's gate.
public enum GateActivation: String, Sendable, Codable {
  /// x / (1 + exp(−x))
  case silu
  /// GELU in its approximation by tanh.
  case geluTanh
}
