import Formats

/// Names the weights that adapters are trained for: SHA-256 over the sizes that shape the computation and over every
/// weight as f32 mode reads it, row-major, whatever the layout of the file they are kept in.
final class BaseFingerprint {
  private var hash = SHA256()

  init(_ config: ModelConfig) {
    let sizes = [
      config.vocabularySize, config.hiddenSize, config.intermediateSize, config.layerCount, config.headCount,
      config.keyValueHeadCount, config.headSize,
    ]
    hash.update(sizes.map(String.init).joined(separator: ","))
    hash.update(";epsilon \(config.rmsNormEpsilon.bitPattern);tied \(config.tiedHead);")
    hash.update("theta \(config.rope.theta.bitPattern);\(Self.text(config.rope.scaling));")
  }

  /// A piece of a tensor: values, codes or scales, in the order in which they are read.
  func add<Element: BitwiseCopyable>(_ name: String, _ piece: [Element]) {
    hash.update(name)
    piece.withUnsafeBytes { hash.update($0) }
  }

  func finish() -> String { hash.finish() }

  private static func text(_ scaling: RoPEParameters.Scaling) -> String {
    switch scaling {
    case .none: "none"
    case .linear(let factor): "linear \(factor.bitPattern)"
    case .llama3(let factor, let low, let high, let length):
      "llama3 \(factor.bitPattern) \(low.bitPattern) \(high.bitPattern) \(length)"
    case .divisors(let divisors): "divisors " + divisors.map { String($0.bitPattern) }.joined(separator: ",")
    }
  }
}
