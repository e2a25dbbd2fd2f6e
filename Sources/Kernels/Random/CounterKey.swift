/// The key of a sequence of random numbers that are hashes of the key and a counter. So any of them can be drawn again
/// at any time and in any order.
public struct CounterKey: Sendable, Equatable {
  /// The lower half.
  public let low: UInt32
  /// The upper half.
  public let high: UInt32

  /// - Parameter parts: what the numbers belong to, such as seed, step, row and module; mixed by SplitMix64's finaliser
  ///   (Steele et al., 2014)
  public init(_ parts: UInt64...) {
    var state = SplitMix64.increment
    for part in parts { state = SplitMix64.mix((state ^ part) &+ SplitMix64.increment) }
    low = UInt32(truncatingIfNeeded: state)
    high = UInt32(truncatingIfNeeded: state >> 32)
  }

  /// The random number at an index: 32 uniform bits, the same that the dropout kernel draws.
  public subscript(index: UInt32) -> UInt32 { Self.hash(Self.hash(index &+ low) ^ high) }

  /// The same function as `hash32` in CKernels.
  private static func hash(_ value: UInt32) -> UInt32 {
    var x = value
    x ^= x >> 16
    x = x &* 0x7FEB_352D
    x ^= x >> 15
    x = x &* 0x846C_A68B
    return x ^ (x >> 16)
  }
}
