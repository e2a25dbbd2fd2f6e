import Formats
import Kernels
import Model

/// The forward and backward pass of one microbatch. It has the same layers as `Transformer`, works on whole rows, and
/// keeps what the backward pass needs.
///
/// The parts are in extensions: `+Forward`, `+Head` (loss), `+Backward`, `+Linear` (projections and LoRA), `+DoRA`.
/// Every kernel call is bounded in size and is a slice of its own (`+Slices`).
struct TrainingPass {
  /// What the pass is for.
  enum Mode: Equatable {
    /// The adapter is applied, with dropout drawn for this optimiser step (from 0).
    case training(step: Int)
    /// The adapter is applied, without dropout: validation.
    case scoring
    /// The base alone: DPO's reference.
    case reference
  }

  let model: TrainingModel
  let microbatch: Microbatch
  let mode: Mode
  let slices: any TrainingSlices

  /// - Parameter microbatch: within the `tokenLimit` that the model's buffers were allocated for
  init(_ model: TrainingModel, _ microbatch: Microbatch, _ mode: Mode, _ slices: any TrainingSlices) {
    precondition(microbatch.tokens.count <= model.activations.layout.tokenLimit, "the microbatch is too large")
    self.model = model
    self.microbatch = microbatch
    self.mode = mode
    self.slices = slices
  }

  var base: Base { model.base }
  var config: ModelConfig { model.base.config }
  var compute: Compute { model.compute }
  var adapter: TrainableAdapter { model.adapter }
  var activations: Activations { model.activations }
  var scratch: Scratch { model.activations.scratch }
  var tokens: Int { microbatch.tokens.count }

  /// The optimiser step that dropout is drawn for; `nil` without dropout.
  var dropoutStep: Int? {
    if case .training(let step) = mode, model.dropout > 0 { step } else { nil }
  }

  /// The adapted projections of a stack; `nil` if it has none, or if the mode does not apply the adapter.
  func lora(_ layer: Int, _ stack: ProjectionStack) -> TrainableAdapter.Stack? {
    mode == .reference ? nil : adapter.layers[layer][stack]
  }
}
