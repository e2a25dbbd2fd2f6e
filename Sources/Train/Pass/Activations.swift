import Formats
import Kernels
import Model

/// The sizes of all memory of the forward and backward pass: what `Activations` allocates, and what is forecast before.
struct ActivationLayout {
  let shapes: TrainingShapes
  /// Tokens of the largest microbatch.
  let tokenLimit: Int
  let layer: LayerLayout
  let scratch: ScratchLayout
  /// Floats of all layers' inputs and the last hidden state.
  let inputFloats: Int
  /// Floats for what layers keep besides.
  let arenaFloats: Int

  /// - Parameters:
  ///   - tokens: of the largest microbatch
  ///   - budget: bytes for what layers keep
  init(_ shapes: TrainingShapes, tokens: Int, budget: Int) {
    self.shapes = shapes
    tokenLimit = tokens
    layer = LayerLayout(shapes)
    scratch = ScratchLayout(shapes, tokens: tokens)
    inputFloats = (shapes.config.layerCount + 1) * tokens * shapes.config.hiddenSize
    let one = tokens * layer.floats
    arenaFloats = min(max(budget / MemoryLayout<Float>.size, one), one * shapes.config.layerCount)
  }

  var bytes: Int { (arenaFloats + inputFloats) * MemoryLayout<Float>.size + scratch.bytes }
}

/// All memory of the forward and backward pass, made once for the largest microbatch.
///
/// Every layer's input is kept. As many layers as the budget allows keep the rest too; the others share one part of the
/// arena and compute it again in the backward pass (activation checkpointing), which changes no bit.
final class Activations {
  let layout: ActivationLayout
  let scratch: Scratch
  private let arena: AlignedBuffer<Float>
  private let inputs: AlignedBuffer<Float>

  init(_ layout: ActivationLayout) {
    self.layout = layout
    scratch = Scratch(layout.scratch)
    arena = AlignedBuffer(count: layout.arenaFloats)
    inputs = AlignedBuffer(count: layout.inputFloats)
  }

  private var config: ModelConfig { layout.shapes.config }

  /// A layer's input, [tokens][hidden]; that of layer `layerCount` is the last hidden state.
  func input(_ layer: Int, tokens: Int) -> Rows {
    Rows(inputs.pointer + layer * tokens * config.hiddenSize, stride: config.hiddenSize)
  }

  /// Layers from this one on have a part of the arena of their own for a microbatch of so many tokens.
  func firstKept(tokens: Int) -> Int {
    let parts = layout.arenaFloats / max(tokens * layout.layer.floats, 1)
    return parts >= config.layerCount ? 0 : config.layerCount - (parts - 1)
  }

  /// What a layer keeps.
  func layer(_ layer: Int, tokens: Int) -> LayerActivations {
    let first = firstKept(tokens: tokens)
    // The first part is the one that layers share, if any do.
    let part = max(layer - first + (first == 0 ? 0 : 1), 0)
    return LayerActivations(layout.layer, at: arena.pointer + part * tokens * layout.layer.floats, tokens: tokens)
  }
}
