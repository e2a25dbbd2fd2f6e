import Formats
import Foundation

/// Computes a base's fingerprint: SHA-256 over the sizes and constants of the computation, and over every weight as f32 mode
/// reads it, row-major. It names the weights that an adapter is trained for, and does not depend on how a file lays them
/// out.
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
    if let text = Self.text(config) { hash.update("architecture \(text);") }
  }

  /// What distinguishes the computation from Llama's; `nil` for Llama's. A window of all layers is no part of it, because such
  /// bases had fingerprints before windows were computed; nor is the offset of norms, which the weights have.
  private static func text(_ config: ModelConfig) -> String? {
    var architecture = config.architecture
    architecture.normOffset = nil
    guard architecture != Architecture() else { return nil }
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let text = (try? encoder.encode(architecture)).map { String(decoding: $0, as: UTF8.self) } ?? ""
    return "window \(config.slidingWindow ?? 0) \(text)"
  }

  /// Adds a part of a tensor: values, codes or scales, in the order in which they are read.
  func add<Element: BitwiseCopyable>(_ name: String, _ part: [Element]) {
    hash.update(name)
    part.withUnsafeBytes { hash.update($0) }
  }

  /// The fingerprint as 64 hexadecimal digits.
  func finish() -> String { hash.finish() }

  private static func text(_ divisors: [Float]) -> String {
    divisors.map { String($0.bitPattern) }.joined(separator: ",")
  }

  private static func text(_ scaling: RoPEParameters.Scaling) -> String {
    switch scaling {
    case .none: "none"
    case .linear(let factor): "linear \(factor.bitPattern)"
    case .llama3(let factor, let low, let high, let length):
      "llama3 \(factor.bitPattern) \(low.bitPattern) \(high.bitPattern) \(length)"
    case .divisors(let divisors): "divisors " + text(divisors)
    case .dynamic(let factor, let length): "dynamic \(factor.bitPattern) \(length)"
    case .yarn(let factor, let attention, let fast, let slow, let length, let truncate):
      "yarn \([factor, attention, fast, slow].map(\.bitPattern)) \(length) \(truncate)"
    case .longrope(let short, let long, let attention, let length):
      "longrope \(text(short));\(text(long)) \(attention.bitPattern) \(length)"
    }
  }
}
