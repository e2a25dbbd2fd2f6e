import Formats
import Kernels
import Model

/// The sizes of all buffers of the forward and backward pass. `Activations` allocates them, and `MemoryForecast` adds
/// them up before.
struct ActivationLayout {
  let shapes: TrainingShapes
  /// Tokens of the largest microbatch.
  let tokenLimit: Int
  let layer: LayerLayout
  let scratch: ScratchLayout
  /// Floats of all layers' inputs and the last hidden state.
  let inputFloats: Int
  /// Floats for what the layers keep in addition to their inputs.
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

/// The buffers of the forward and backward pass, allocated once for the largest microbatch.
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

  /// The first layer that has its own part of the arena, for a microbatch of this many tokens. Earlier layers share one
  /// part.
  func firstKept(tokens: Int) -> Int {
    let parts = layout.arenaFloats / max(tokens * layout.layer.floats, 1)
    return parts >= config.layerCount ? 0 : config.layerCount - (parts - 1)
  }

  /// The buffers for what a layer keeps.
  func layer(_ layer: Int, tokens: Int) -> LayerActivations {
    let first = firstKept(tokens: tokens)
    // If some layers share a part, it is the first.
    let part = max(layer - first + (first == 0 ? 0 : 1), 0)
    return LayerActivations(layout.layer, at: arena.pointer + part * tokens * layout.layer.floats, tokens: tokens)
  }
}
