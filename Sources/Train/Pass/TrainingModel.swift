import Formats
import Kernels
import Model

/// What all passes of a run share: the base, the adapter that is trained on it, and their memory.
final class TrainingModel {
  let base: Base
  let compute: Compute
  let adapter: TrainableAdapter
  let activations: Activations
  let rope: RoPETable
  let attention: RowAttention
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
    rope = RoPETable(base.config.rope, headSize: base.config.headSize, positions: max(positionLimit, 1))
    attention = RowAttention(
      headCount: base.config.headCount, keyValueHeadCount: base.config.keyValueHeadCount,
      headSize: base.config.headSize)
  }

  var config: ModelConfig { base.config }
}
