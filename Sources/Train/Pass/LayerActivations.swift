import Formats
import Kernels
import Model

/// What one layer keeps of a microbatch for the backward pass.
struct LayerActivations {
  /// [tokens][padded outputs]: queries and keys are rotated.
  let queryKeyValue: Rows
  /// [tokens][heads · head size]
  let attended: Rows
  /// [tokens][heads]
  let logSumExp: UnsafeMutablePointer<Float>
  /// The hidden state between attention and feed-forward, [tokens][hidden].
  let middle: Rows
  /// [tokens][padded outputs]
  let gateUp: Rows
  /// LoRA's inner activations D(x)·Aᵀ, [tokens][the projection's ranks side by side].
  let inner: PerProjection<Rows>
  /// The outputs of o and down, [tokens][hidden], which DoRA's magnitudes need; `nil` without DoRA.
  let outputs: (output: Rows, down: Rows)?

  /// - Parameter start: of `layout.floats` floats for each token
  init(_ layout: LayerLayout, at start: UnsafeMutablePointer<Float>, tokens: Int) {
    func rows(_ field: LayerLayout.Field) -> Rows { Rows(start + tokens * field.offset, stride: field.columns) }
    queryKeyValue = rows(layout.queryKeyValue)
    attended = rows(layout.attended)
    logSumExp = rows(layout.logSumExp).pointer
    middle = rows(layout.middle)
    gateUp = rows(layout.gateUp)
    inner = PerProjection { rows(layout.inner[$0]) }
    outputs = layout.outputs.map { (rows($0.output), rows($0.down)) }
  }
}

/// How many floats a layer keeps for each token, and of what.
struct LayerLayout {
  struct Field {
    /// Floats of a token before this field.
    let offset: Int
    /// Floats of a token.
    let columns: Int
  }

  let queryKeyValue, attended, logSumExp, middle, gateUp: Field
  let inner: PerProjection<Field>
  let outputs: (output: Field, down: Field)?
  /// Floats for each token, the layer's input aside.
  let floats: Int

  init(_ shapes: TrainingShapes) {
    var floats = 0
    func field(_ columns: Int) -> Field {
      defer { floats += columns }
      return Field(offset: floats, columns: columns)
    }
    let config = shapes.config
    queryKeyValue = field(shapes.paddedOutputs.queryKeyValue)
    attended = field(config.querySize)
    logSumExp = field(config.headCount)
    middle = field(config.hiddenSize)
    gateUp = field(shapes.paddedOutputs.gateUp)
    inner = PerProjection { field(shapes.rankSums[$0]) }
    outputs = shapes.usesDoRA ? (field(config.hiddenSize), field(config.hiddenSize)) : nil
    self.floats = floats
  }
}

/// The widths that the sizes of all buffers follow from.
struct TrainingShapes {
  let config: ModelConfig
  /// Columns of each projection's outputs, every module padded to whole tiles.
  let paddedOutputs: PerProjection<Int>
  /// The largest sum of ranks of each projection over all layers.
  let rankSums: PerProjection<Int>
  let usesDoRA: Bool
  let usesDropout: Bool

  init(config: ModelConfig, targets: [AdapterTargets.Target], usesDoRA: Bool, usesDropout: Bool) {
    self.config = config
    self.usesDoRA = usesDoRA
    self.usesDropout = usesDropout
    paddedOutputs = PerProjection { StackedLinear.layout($0.modules, config).outputs }
    rankSums = PerProjection { projection in
      (0..<config.layerCount).reduce(0) { largest, layer in
        let adapted = targets.filter { $0.layer == layer && projection.modules.contains($0.linear) }
        return max(largest, adapted.reduce(0) { $0 + $1.rank })
      }
    }
  }

  var largestRankSum: Int { rankSums.all.max() ?? 0 }

  /// The widest input of a projection.
  var widestInput: Int { max(config.hiddenSize, config.querySize, config.intermediateSize) }
}
