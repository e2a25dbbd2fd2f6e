import Formats
import Kernels
import Model

/// One slab's forward and backward pass in slices: the same layers as `Transformer`, on whole rows, keeping what the
/// way back needs.
///
/// The parts are in extensions: `+Slices` (how it is cut), `+Linear` (products and LoRA), `+Forward`, `+Head` (loss), `+Backward`.
final class TrainingPass {
  let base: Base
  let compute: Compute
  let adapter: TrainableAdapter
  let activations: Activations
  let rope: RoPETable
  let attention: RowAttention
  /// LoRA's dropout.
  let dropout: Float
  let seed: Int

  /// The rows being computed.
  var slab = Slab()
  /// The optimiser step, which keys dropout.
  var step = 0
  /// Dropout is on: training, not scoring.
  var isTraining = true
  /// The adapter is applied; DPO's reference goes without.
  var usesAdapter = true

  init(
    base: Base, compute: Compute, adapter: TrainableAdapter, dropout: Double, seed: Int, tokenLimit: Int,
    positionLimit: Int, activationBytes: Int
  ) {
    self.base = base
    self.compute = compute
    self.adapter = adapter
    self.dropout = Float(dropout)
    self.seed = seed
    let layout = ActivationLayout(config: base.config, targets: adapter.targets, usesDoRA: adapter.usesDoRA)
    activations = Activations(layout: layout, tokens: tokenLimit, budget: activationBytes, dropout: dropout > 0)
    rope = RoPETable(base.config.rope, headSize: base.config.headSize, positions: max(positionLimit, 1))
    attention = RowAttention(
      headCount: base.config.headCount, keyValueHeadCount: base.config.keyValueHeadCount,
      headSize: base.config.headSize)
  }

  var config: ModelConfig { base.config }
  var scratch: Scratch { activations.scratch }
  var tokens: Int { slab.tokens.count }

  func stackWeights(_ layer: Int, _ stack: Int) -> StackedLinear {
    let weights = base.weights(layer: layer)
    return [weights.queryKeyValue, weights.output, weights.gateUp, weights.down][stack]
  }
}
