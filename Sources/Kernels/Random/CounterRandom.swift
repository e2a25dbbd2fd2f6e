/// A counter-based random number generator. Its numbers depend on a seed and a counter alone, so they can be drawn
/// again at any time and in any order.
///
/// The state is SplitMix64's (Steele, Lea and Flood, 2014), begun at a hash of seed and counter.
public struct CounterRandom: Sendable {
  private var state: UInt64

  /// - Parameter counter: which of the seed's sequences; a sampler's is the token's index
  public init(seed: UInt64, counter: UInt64) {
    state =
      SplitMix64.mix(seed &+ SplitMix64.increment)
      ^ SplitMix64.mix(counter &* 0xD1B5_4A32_D192_ED03 &+ 0x8CB9_2BA7_2F3D_8DD7)
  }

  /// 64 uniform bits.
  public mutating func next() -> UInt64 {
    state &+= SplitMix64.increment
    return SplitMix64.mix(state)
  }

  /// Uniform in [0, 1), with 53 random bits.
  public mutating func unit() -> Double { Double(next() >> 11) * 0x1p-53 }
}

/// The two parts of SplitMix64 (Steele, Lea and Flood, 2014) that the random numbers here are made of.
enum SplitMix64 {
  /// The step of its counter: 2⁶⁴ divided by the golden ratio, made odd.
  static let increment: UInt64 = 0x9E37_79B9_7F4A_7C15

  /// SplitMix64's finaliser, a bijection in which every bit of the input changes about half of the output's bits.
  @inline(__always)
  static func mix(_ value: UInt64) -> UInt64 {
    var z = value
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
