public import Formats
public import Kernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Cosines and sines of the rotary position embedding (Su et al., 2021) for positions 0 ..< positionCount, multiplied by the
/// scaling's attention factor.
///
/// An angle is the product of position and inverse frequency in f32, as in transformers.
public final class RoPETable: Sendable {
  /// [positionCount][headSize / 2]
  public let cosine: AlignedBuffer<Float>
  /// [positionCount][headSize / 2]
  public let sine: AlignedBuffer<Float>
  /// Positions that the table covers.
  public let positionCount: Int

  /// - Parameters:
  ///   - headSize: elements of a head that are rotated
  ///   - positions: how many the table covers
  ///   - contextLength: the longest sequence, by which some scalings choose the frequencies of all sequences; `nil` for
  ///     `positions`
  public init(_ parameters: RoPEParameters, headSize: Int, positions: Int, contextLength: Int? = nil) {
    positionCount = positions
    let frequencies = Self.inverseFrequencies(
      parameters, headSize: headSize, contextLength: contextLength ?? positions)
    let factor = parameters.attentionFactor
    cosine = AlignedBuffer(count: positions * frequencies.count)
    sine = AlignedBuffer(count: positions * frequencies.count)
    for position in 0..<positions {
      for (i, frequency) in frequencies.enumerated() {
        let angle = Float(position) * frequency
        cosine.pointer[position * frequencies.count + i] = factor * cosf(angle)
        sine.pointer[position * frequencies.count + i] = factor * sinf(angle)
      }
    }
  }

  /// The inverse frequencies θ^(−2i / headSize), scaled as the model says, [headSize / 2].
  static func inverseFrequencies(_ parameters: RoPEParameters, headSize: Int, contextLength: Int = 0) -> [Float] {
    var parameters = parameters
    if case .dynamic(let factor, let original) = parameters.scaling {
      let length = Double(max(contextLength, original))
      let growth = Double(factor) * length / Double(original) - (Double(factor) - 1)
      parameters.theta *= Float(pow(growth, Double(headSize) / Double(headSize - 2)))
    }
    let base = (0..<headSize / 2).map { i in 1 / powf(parameters.theta, Float(2 * i) / Float(headSize)) }
    switch parameters.scaling {
    case .none, .dynamic: return base
    case .linear(let factor): return base.map { $0 / factor }
    case .divisors(let divisors): return zip(base, divisors).map { $0 / $1 }
    case .longrope(let short, let long, _, let original):
      return zip(base, contextLength > original ? long : short).map { $0 / $1 }
    case .yarn: return yarn(parameters, base)
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

  /// YaRN's frequencies: a ramp from those that are kept to those that are divided by the factor.
  /// - Parameter base: the frequencies without scaling
  private static func yarn(_ parameters: RoPEParameters, _ base: [Float]) -> [Float] {
    guard case .yarn(let factor, _, let fast, let slow, let original, let truncate) = parameters.scaling else {
      return base
    }
    let size = Double(2 * base.count)
    /// The index of the frequency that turns so many times in the original context.
    func index(turns: Float) -> Double {
      size * log(Double(original) / (Double(turns) * 2 * .pi)) / (2 * log(Double(parameters.theta)))
    }
    var (low, high) = (index(turns: fast), index(turns: slow))
    if truncate { (low, high) = (low.rounded(.down), high.rounded(.up)) }
    (low, high) = (max(low, 0), min(high, size - 1))
    if low == high { high += 0.001 }
    return base.enumerated().map { i, frequency in
      let ramp = min(max((Float(i) - Float(low)) / Float(high - low), 0), 1)
      return frequency / factor * ramp + frequency * (1 - ramp)
    }
  }
}

extension RoPEParameters {
  /// Whether a rotated vector is as long as it was.
  public var keepsLengths: Bool { attentionFactor == 1 }

  /// The factor on cosines and sines.
  var attentionFactor: Float {
    switch scaling {
    case .yarn(_, let factor, _, _, _, _), .longrope(_, _, let factor, _): factor
    default: 1
    }
  }
}

/// The rotary embeddings of a model's layers.
public struct LayerRoPE: Sendable {
  private let tables: [RoPETable?]

  /// - Parameters:
  ///   - positions: how many the tables cover
  ///   - contextLength: as in `RoPETable`
  public init(_ config: ModelConfig, positions: Int, contextLength: Int) {
    func table(_ parameters: RoPEParameters) -> RoPETable {
      RoPETable(parameters, headSize: config.rotarySize, positions: positions, contextLength: contextLength)
    }
    let (global, local) = (table(config.rope), config.architecture.localRoPE.map(table))
    tables = (0..<config.layerCount).map { layer in
      guard let parameters = config.rope(layer: layer) else { return nil }
      return parameters == config.rope ? global : local
    }
  }

  /// The table of a layer; `nil` if it has no rotary embedding.
  public subscript(layer: Int) -> RoPETable? { tables[layer] }
}
