import Formats
import Kernels
import Model

/// What one layer keeps of a slab for its way back. All are [tokens][…] f32, one after the other.
struct LayerActivations {
  let queryKeyValue: Rows
  let attended: Rows
  let logSumExp: UnsafeMutablePointer<Float>
  /// The hidden state between attention and feed-forward.
  let middle: Rows
  let gateUp: Rows
  /// Inner LoRA activations x·Aᵀ of each stack.
  let inner: [Rows]
  /// The outputs of o and down, for DoRA's magnitudes alone.
  let outputs: [Rows]
}

/// Sizes of a slab's buffers, in floats; the one place that both the arena and the forecast go by.
struct ActivationLayout {
  let config: ModelConfig
  /// Columns of each stack's outputs, padded.
  let stackOutputs: [Int]
  /// The largest sum of ranks of each stack over all layers.
  let rankSums: [Int]
  let usesDoRA: Bool

  init(config: ModelConfig, targets: [AdapterTargets.Target], usesDoRA: Bool) {
    self.config = config
    self.usesDoRA = usesDoRA
    stackOutputs = StackedLinear.stacks.map { StackedLinear.layout($0, config).outputs }
    rankSums = StackedLinear.stacks.map { linears in
      (0..<config.layerCount).reduce(0) { largest, layer in
        let stack = targets.filter { $0.layer == layer && linears.contains($0.linear) }
        return max(largest, stack.reduce(0) { $0 + $1.rank })
      }
    }
  }

  /// Floats that a layer keeps for each token, its input aside.
  var floatsPerToken: Int {
    stackOutputs[0] + config.querySize + config.headCount + config.hiddenSize + stackOutputs[2]
      + rankSums.reduce(0, +) + (usesDoRA ? 2 * config.hiddenSize : 0)
  }

  /// The widest input of a product.
  var widestInput: Int { max(config.hiddenSize, config.querySize, config.intermediateSize) }

  func layer(at start: UnsafeMutablePointer<Float>, tokens: Int) -> LayerActivations {
    var next = start
    func take(_ columns: Int) -> Rows {
      defer { next += tokens * columns }
      return Rows(next, stride: columns)
    }
    return LayerActivations(
      queryKeyValue: take(stackOutputs[0]), attended: take(config.querySize),
      logSumExp: take(config.headCount).pointer, middle: take(config.hiddenSize), gateUp: take(stackOutputs[2]),
      inner: rankSums.map { take($0) }, outputs: usesDoRA ? [take(config.hiddenSize), take(config.hiddenSize)] : [])
  }
}

/// All memory of the forward and backward pass, made once for the largest slab.
///
/// Every layer's input is kept. As many layers as the budget allows keep the rest too; the others share one place and
/// compute it again on the way back (activation checkpointing), which changes no bit.
final class Activations {
  let layout: ActivationLayout
  let tokenLimit: Int
  private let arena: AlignedBuffer<Float>
  private let inputBuffer: AlignedBuffer<Float>
  let scratch: Scratch

  /// - Parameters:
  ///   - tokens: of the largest slab
  ///   - budget: bytes for what layers keep
  init(layout: ActivationLayout, tokens: Int, budget: Int, dropout: Bool) {
    self.layout = layout
    tokenLimit = tokens
    arena = AlignedBuffer(count: Self.arenaCount(layout, tokens: tokens, budget: budget))
    inputBuffer = AlignedBuffer(count: (layout.config.layerCount + 1) * tokens * layout.config.hiddenSize)
    scratch = Scratch(layout: layout, tokens: tokens, dropout: dropout)
  }

  static func arenaCount(_ layout: ActivationLayout, tokens: Int, budget: Int) -> Int {
    let layer = tokens * layout.floatsPerToken
    return min(max(budget / 4, layer), layer * layout.config.layerCount)
  }

  /// Bytes of everything that `init` makes.
  static func bytes(_ layout: ActivationLayout, tokens: Int, budget: Int, dropout: Bool) -> Int {
    let config = layout.config
    let inputs = (config.layerCount + 1) * tokens * config.hiddenSize
    return (arenaCount(layout, tokens: tokens, budget: budget) + inputs) * 4
      + Scratch.bytes(layout, tokens: tokens, dropout: dropout)
  }

  /// A layer's input; that of layer `layerCount` is the last hidden state.
  func input(_ layer: Int, tokens: Int) -> UnsafeMutablePointer<Float> {
    inputBuffer.pointer + layer * tokens * layout.config.hiddenSize
  }

  /// Layers at and above this have a place of their own for a slab of so many tokens.
  func firstKept(tokens: Int) -> Int {
    let places = arena.count / max(tokens * layout.floatsPerToken, 1)
    let count = layout.config.layerCount
    return places >= count ? 0 : count - (places - 1)
  }

  func layer(_ layer: Int, tokens: Int) -> LayerActivations {
    let place = max(layer - firstKept(tokens: tokens) + (firstKept(tokens: tokens) == 0 ? 0 : 1), 0)
    return layout.layer(at: arena.pointer + place * tokens * layout.floatsPerToken, tokens: tokens)
  }
}

/// Buffers that hold nothing from one layer to the next.
struct Scratch {
  /// Rows of logits at a time.
  let logitRows: Int
  let normed, projected, activated: AlignedBuffer<Float>
  /// The gradient of the residual stream, [tokens][hidden].
  let gradient: AlignedBuffer<Float>
  let dNormed, dActivated, dGateUp, dAttended, dQueryKeyValue, dInner, perHead: AlignedBuffer<Float>
  /// A stack's gradient scaled by DoRA's factors.
  let scaled: AlignedBuffer<Float>
  let dropped, dDropped: AlignedBuffer<Float>
  let logits, gathered, headNormed, dHeadNormed, dGathered: AlignedBuffer<Float>
  let rounded: QuantizedRows

  private static let logitBytes = 24 << 20

  static func logitRows(_ config: ModelConfig) -> Int {
    let bytes = TileLayout.groups(config.vocabularySize) * tileLanes * 4
    return min(max(logitBytes / bytes, 8), 256)
  }

  init(layout: ActivationLayout, tokens: Int, dropout: Bool) {
    let counts = Self.counts(layout, tokens: tokens, dropout: dropout)
    logitRows = Self.logitRows(layout.config)
    func make(_ name: String) -> AlignedBuffer<Float> { AlignedBuffer(count: counts[name] ?? 0) }
    normed = make("normed")
    projected = make("projected")
    activated = make("activated")
    gradient = make("gradient")
    dNormed = make("dNormed")
    dActivated = make("dActivated")
    dGateUp = make("dGateUp")
    dAttended = make("dAttended")
    dQueryKeyValue = make("dQueryKeyValue")
    dInner = make("dInner")
    perHead = make("perHead")
    scaled = make("scaled")
    dropped = make("dropped")
    dDropped = make("dDropped")
    logits = make("logits")
    gathered = make("gathered")
    headNormed = make("headNormed")
    dHeadNormed = make("dHeadNormed")
    dGathered = make("dGathered")
    rounded = QuantizedRows(rows: Self.roundedRows(layout, tokens: tokens), columns: layout.widestInput)
  }

  private static func roundedRows(_ layout: ActivationLayout, tokens: Int) -> Int {
    max(tokens, logitRows(layout.config), layout.rankSums.max() ?? 0)
  }

  private static func counts(_ layout: ActivationLayout, tokens: Int, dropout: Bool) -> [String: Int] {
    let config = layout.config
    let hidden = config.hiddenSize
    let logitRows = logitRows(config)
    let widestOutput = layout.stackOutputs.max() ?? 0
    return [
      "normed": tokens * hidden, "projected": tokens * max(layout.stackOutputs[1], layout.stackOutputs[3]),
      "activated": tokens * config.intermediateSize, "gradient": tokens * hidden, "dNormed": tokens * hidden,
      "dActivated": tokens * config.intermediateSize, "dGateUp": tokens * layout.stackOutputs[2],
      "dAttended": tokens * config.querySize, "dQueryKeyValue": tokens * layout.stackOutputs[0],
      "dInner": tokens * (layout.rankSums.max() ?? 0), "perHead": 2 * tokens * config.querySize,
      // Also takes the products that DoRA's norms need.
      "scaled": layout.usesDoRA ? max(tokens, layout.rankSums.max() ?? 0) * widestOutput : 0,
      "dropped": dropout ? tokens * layout.widestInput : 0, "dDropped": dropout ? tokens * layout.widestInput : 0,
      "logits": logitRows * TileLayout.groups(config.vocabularySize) * tileLanes, "gathered": logitRows * hidden,
      "headNormed": logitRows * hidden, "dHeadNormed": logitRows * hidden, "dGathered": logitRows * hidden,
    ]
  }

  static func bytes(_ layout: ActivationLayout, tokens: Int, dropout: Bool) -> Int {
    counts(layout, tokens: tokens, dropout: dropout).values.reduce(0, +) * 4
      + roundedRows(layout, tokens: tokens) * (layout.widestInput * 2 + layout.widestInput / 8 * 4)
  }
}
