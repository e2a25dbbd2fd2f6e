import CKernels

/// The key of a sequence of random numbers that depend on nothing but the key and their index: a hash of a counter. So any
/// of them can be drawn again at any time and in any order.
public struct CounterKey: Sendable, Equatable {
  /// The lower half.
  public let low: UInt32
  /// The upper half.
  public let high: UInt32

  /// - Parameter parts: what the numbers belong to, such as seed, step, row and module; mixed by SplitMix64's finaliser
  ///   (Steele et al., 2014)
  public init(_ parts: UInt64...) {
    var state: UInt64 = 0x9E37_79B9_7F4A_7C15
    for part in parts {
      state = (state ^ part) &+ 0x9E37_79B9_7F4A_7C15
      state = (state ^ (state >> 30)) &* 0xBF58_476D_1CE4_E5B9
      state = (state ^ (state >> 27)) &* 0x94D0_49BB_1331_11EB
      state ^= state >> 31
    }
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

extension Compute {
  /// Inverted dropout (Srivastava et al., 2014): out = x / (1 − p), or 0 where the random number is below p.
  /// - Parameters:
  ///   - x, out: [rows][columns]; they may be the same unless `adding`
  ///   - probability: p, in 0 ..< 1
  ///   - keys: a key for each row. Element i of a row takes the random number at index position · columns + i
  ///   - positions: a position for each row
  ///   - adding: adds to `out` instead of overwriting it
  public func dropout(
    _ x: Rows, into out: Rows, columns: Int, probability: Float, keys: ArraySlice<CounterKey>,
    positions: ArraySlice<Int32>, adding: Bool = false
  ) {
    let kernel = kernels.training.dropout
    let threshold = UInt32(min(max((Double(probability) * 0x1p32).rounded(.down), 0), Double(UInt32.max)))
    let factor = 1 / (1 - probability)
    pool.run(count: keys.count, grain: 8) { range in
      for row in range {
        let (key, position) = (keys[keys.startIndex + row], positions[positions.startIndex + row])
        kernel(
          x.pointer + row * x.stride, out.pointer + row * out.stride, columns,
          UInt32(truncatingIfNeeded: Int(position) * columns), key.low, key.high, threshold, factor, adding ? 1 : 0)
      }
    }
  }
}
