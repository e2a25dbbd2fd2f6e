public import Formats
public import Kernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Cosines and sines of the rotary embedding for positions 0 ..< count, [position][headSize / 2].
///
/// Angles are the product of position and inverse frequency in f32, as transformers computes them.
public final class RoPETable: Sendable {
  public let cosine: AlignedBuffer<Float>
  public let sine: AlignedBuffer<Float>
  public let positionCount: Int

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

  /// θ^(−2i/headSize), scaled as the model says.
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
