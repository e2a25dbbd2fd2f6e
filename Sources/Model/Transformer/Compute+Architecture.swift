public import Formats
public import Kernels

extension ModelConfig {
  /// What attention computes in a layer.
  public func attentionRule(layer: Int) -> AttentionRule {
    AttentionRule(
      scale: attentionScale, softCap: architecture.attentionSoftCap, window: window(layer: layer),
      rotarySize: rotarySize)
  }
}

/// The steps that a relative of Llama adds to a forward pass, in place. They do nothing for Llama.
extension Compute {
  /// What attention or the feed-forward adds to the residual stream: multiplier · norm(x).
  /// - Parameters:
  ///   - x: [rows][hiddenSize]
  ///   - norm: [hiddenSize]; `nil` without a norm
  public func finishBranch(_ x: Rows, norm: UnsafePointer<Float>?, rows: Int, _ config: ModelConfig) {
    if let norm {
      rmsNorm(
        x, weight: norm, epsilon: config.rmsNormEpsilon, rows: rows, groups: 1, size: config.hiddenSize, into: x)
    }
    let factor = config.architecture.residualMultiplier
    if factor != 1 { scale(x, by: factor, rows: rows, columns: config.hiddenSize) }
  }

  /// Logits as the output head gives them: multiplied, then softly capped.
  /// - Parameter logits: [rows][vocabularySize]
  public func finish(_ logits: Rows, rows: Int, _ config: ModelConfig) {
    let architecture = config.architecture
    if architecture.logitMultiplier != 1 {
      scale(logits, by: architecture.logitMultiplier, rows: rows, columns: config.vocabularySize)
    }
    if let cap = architecture.logitSoftCap { softCap(logits, cap, rows: rows, columns: config.vocabularySize) }
  }
}
