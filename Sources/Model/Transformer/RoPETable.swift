public import Formats
public import Kernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Cosines and sines of the rotary position embedding (Su et al., 2021) for positions 0 ..< positionCount.
///
/// An angle is the product of position and inverse frequency in f32, as in transformers.
public final class RoPETable: Sendable {
  /// [positionCount][headSize / 2]
  public let cosine: AlignedBuffer<Float>
  /// [positionCount][headSize / 2]
  public let sine: AlignedBuffer<Float>
  /// Positions that the table covers.
  public let positionCount: Int

  /// - Parameter positions: how many the table covers
  public init(_ parameters: RoPEParameters, headSize: Int, positions: Int) {
    positionCount = positions
    let frequencies = Self.inverseFrequencies(parameters, headSize: headSize)
    cosine = AlignedBuffer(count: positions * frequencies.count)
    sine = AlignedBuffer(count: positions * frequencies.count)
    for position in 0..<positions {
      for (i, frequency) in frequencies.enumerated() {
        let angle = Float(position) * frequency
        cosine.pointer[position * frequencies.count + i] = cosf(angle)
        sine.pointer[position * frequencies.count + i] = sinf(angle)
      }
    }
  }

  /// The inverse frequencies θ^(−2i / headSize), scaled as the model says, [headSize / 2].
  static func inverseFrequencies(_ parameters: RoPEParameters, headSize: Int) -> [Float] {
    let base = (0..<headSize / 2).map { i in 1 / powf(parameters.theta, Float(2 * i) / Float(headSize)) }
    switch parameters.scaling {
    case .none: return base
    case .linear(let factor): return base.map { $0 / factor }
    case .divisors(let divisors): return zip(base, divisors).map { $0 / $1 }
    case .llama3(let factor, let low, let high, let original):
      let (longest, shortest) = (Float(original) / low, Float(original) / high)
      return base.map { frequency in
        let wavelength = 2 * Float.pi / frequency
        if wavelength < shortest { return frequency }
        if wavelength > longest { return frequency / factor }
        let smooth = (Float(original) / wavelength - low) / (high - low)
        return (1 - smooth) * frequency / factor + smooth * frequency
      }
    }
  }
}
