import Formats
import Kernels
import Model

/// What one layer keeps of a microbatch in the forward pass, because the backward pass reads it.
struct LayerActivations {
  /// [tokens][padded outputs]: queries and keys are normalised and rotated.
  let queryKeyValue: Rows
  /// Queries and keys as the projections gave them, [tokens][their columns in `queryKeyValue`]; `nil` if they follow from
  /// `queryKeyValue`.
  let projectedQueryKey: Rows?
  /// [tokens][heads · head size]
  let attended: Rows
  /// [tokens][heads]
  let logSumExp: UnsafeMutablePointer<Float>
  /// The hidden state between attention and feed-forward, [tokens][hidden].
  let middle: Rows
  /// [tokens][padded outputs]
  let gateUp: Rows
  /// LoRA's inner activations D(x)·Aᵀ, [tokens][the stack's ranks side by side].
  let inner: PerStack<Rows>
  /// The outputs of o and down, [tokens][hidden], which DoRA's magnitudes and norms of them need; else `nil`.
  let outputs: (output: Rows, down: Rows)?

  /// - Parameter start: of `layout.floats` floats for each token
  init(_ layout: LayerLayout, at start: UnsafeMutablePointer<Float>, tokens: Int) {
    func rows(_ field: LayerLayout.Field) -> Rows { Rows(start + tokens * field.offset, stride: field.columns) }
    queryKeyValue = rows(layout.queryKeyValue)
    projectedQueryKey = layout.projectedQueryKey.map(rows)
    attended = rows(layout.attended)
    logSumExp = rows(layout.logSumExp).pointer
    middle = rows(layout.middle)
    gateUp = rows(layout.gateUp)
    inner = PerStack { rows(layout.inner[$0]) }
    outputs = layout.outputs.map { (rows($0.output), rows($0.down)) }
  }
}

/// The fields that a layer keeps, and how many floats each has for a token.
struct LayerLayout {
  struct Field {
    /// Floats of a token that come before this field.
    let offset: Int
    /// Floats that this field has for a token.
    let columns: Int
  }

  let projectedQueryKey: Field?
  let queryKeyValue, attended, logSumExp, middle, gateUp: Field
  let inner: PerStack<Field>
  let outputs: (output: Field, down: Field)?
  /// Floats of all fields for a token, without the layer's input.
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
    inner = PerStack { field(shapes.rankSums[$0]) }
    outputs =
      shapes.usesDoRA || config.architecture.norms != .before
      ? (field(config.hiddenSize), field(config.hiddenSize)) : nil
    projectedQueryKey = shapes.keepsProjectedQueryKey ? field(shapes.queryKeyColumns) : nil
    self.floats = floats
  }
}

/// The widths from which the sizes of all buffers are computed.
struct TrainingShapes {
  let config: ModelConfig
  /// The columns of each stack's outputs, each projection padded to whole groups of 16.
  let paddedOutputs: PerStack<Int>
  /// The largest sum of ranks of each stack over all layers.
  let rankSums: PerStack<Int>
  let usesDoRA: Bool
  let usesDropout: Bool
  /// `Compute.packsGradients`
  let packsGradients: Bool

  init(
    config: ModelConfig, targets: [TargetedProjection], usesDoRA: Bool, usesDropout: Bool, packsGradients: Bool
  ) {
    self.packsGradients = packsGradients
    self.config = config
    self.usesDoRA = usesDoRA
    self.usesDropout = usesDropout
    paddedOutputs = PerStack { StackedWeights.layout($0.projections(config), config).outputs }
    rankSums = PerStack { stack in
      (0..<config.layerCount).reduce(0) { largest, layer in
        let adapted = targets.filter { $0.layer == layer && stack.projections(config).contains($0.projection) }
        return max(largest, adapted.reduce(0) { $0 + $1.rank })
      }
    }
  }

  /// Whether queries and keys do not follow from what attention reads, because of norms, or because the rotation changes
  /// their lengths, which matters to DoRA alone.
  var keepsProjectedQueryKey: Bool {
    config.architecture.queryKeyNorm != .none || usesDoRA && !config.rope.keepsLengths
  }

  /// The columns of queries and keys in the outputs of their stack.
  var queryKeyColumns: Int {
    let offsets = StackedWeights.layout(ProjectionStack.queryKeyValue.projections(config), config).offsets
    return offsets[.v] ?? config.querySize + config.keyValueSize
  }

  var largestRankSum: Int { rankSums.all.max() ?? 0 }

  /// The widest input of a stack.
  var widestInput: Int { max(config.hiddenSize, config.querySize, config.intermediateSize) }
}
