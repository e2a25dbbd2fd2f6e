/// A counter-based generator: output n of a seed is a hash of both (SplitMix64's finaliser; Steele, Lea and Flood, 2014).
public struct CounterRandom: Sendable {
  private var state: UInt64

  public init(seed: UInt64, counter: UInt64) {
    state =
      Self.mix(seed &+ 0x9E37_79B9_7F4A_7C15) ^ Self.mix(counter &* 0xD1B5_4A32_D192_ED03 &+ 0x8CB9_2BA7_2F3D_8DD7)
  }

  public mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    return Self.mix(state)
  }

  /// In [0, 1), 53 bits.
  public mutating func unit() -> Double { Double(next() >> 11) * 0x1p-53 }

  private static func mix(_ value: UInt64) -> UInt64 {
    var z = value
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
