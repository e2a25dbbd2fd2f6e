import Formats
import Kernels
import Model

/// What all passes of a run share: the base, the adapter that is trained on it, and their memory.
final class TrainingModel {
  let base: Base
  let compute: Compute
  let adapter: TrainableAdapter
  let activations: Activations
  let rope: LayerRoPE
  /// [layerCount]
  let attention: [RowAttention]
  /// The probability that LoRA's dropout drops an input.
  let dropout: Float
  let seed: Int
  let norms = BaseRowNorms()

  /// - Parameters:
  ///   - tokenLimit: tokens of the largest microbatch
  ///   - positionLimit: tokens of the longest row
  ///   - activationBytes: the maximum for what layers keep for the backward pass
  init(
    base: Base, compute: Compute, adapter: TrainableAdapter, dropout: Double, seed: Int, tokenLimit: Int,
    positionLimit: Int, activationBytes: Int
  ) {
    self.base = base
    self.compute = compute
    self.adapter = adapter
    self.dropout = Float(dropout)
    self.seed = seed
    let shapes = TrainingShapes(
      config: base.config, targets: adapter.targets, usesDoRA: adapter.usesDoRA, usesDropout: dropout > 0,
      packsGradients: compute.packsGradients)
    activations = Activations(ActivationLayout(shapes, tokens: tokenLimit, budget: activationBytes))
    let config = base.config
    rope = LayerRoPE(
      config, positions: max(positionLimit, 1), contextLength: max(positionLimit, config.plainContextLength))
    attention = (0..<config.layerCount).map { layer in
      RowAttention(
        headCount: config.headCount, keyValueHeadCount: config.keyValueHeadCount, headSize: config.headSize,
        rule: config.attentionRule(layer: layer))
    }
  }

  var config: ModelConfig { base.config }
}
