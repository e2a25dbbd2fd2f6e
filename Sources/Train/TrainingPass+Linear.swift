import Formats
import Kernels
import Model

/// The linear modules: y = W·x + s·B·A·D(x), with DoRA's factors where it is used, and their gradients.
extension TrainingPass {
  /// Slices of a stack's outputs for all tokens. x: [tokens][columns]; y: [tokens][padded outputs].
  func linear(
    _ layer: Int, _ stack: Int, _ x: UnsafeMutablePointer<Float>, into y: UnsafeMutablePointer<Float>, inner: Rows
  ) -> [Slice] {
    let weights = stackWeights(layer, stack).matrix
    let (input, out) = (Rows(x, stride: weights.columns), Rows(y, stride: weights.paddedOutputs))
    let rounded = scratch.rounded
    var slices: [Slice] = []
    for rows in stretches {
      let (x, y) = (input.from(row: rows.lowerBound).pointer, out.from(row: rows.lowerBound).pointer)
      slices.append { [self] in compute.quantizeRows(x, rows: rows.count, for: weights, into: rounded) }
      for groups in weights.outputRanges(rows: rows.count, operations: Self.sliceOperations) {
        slices.append { [self] in
          compute.product(weights, groups: groups, x, rows: rows.count, quantized: rounded, into: y)
        }
      }
    }
    guard usesAdapter, let lora = adapter.stacks[layer][stack] else { return slices }
    return slices
      + byRows(lora.operations) { [self] rows in
        addLoRA(lora, stackWeights(layer, stack), rows, input, out, inner)
      }
  }

  /// Slices of a stack's inner activations D(x)·Aᵀ alone.
  func shrink(_ layer: Int, _ stack: Int, _ x: UnsafeMutablePointer<Float>, into inner: Rows) -> [Slice] {
    guard usesAdapter, let lora = adapter.stacks[layer][stack] else { return [] }
    return byRows(lora.operations) { [self] rows in shrink(lora, rows, Rows(x, stride: lora.inputs), into: inner) }
  }

  private func shrink(_ lora: TrainableAdapter.Stack, _ rows: Range<Int>, _ x: Rows, into inner: Rows) {
    let first = rows.lowerBound
    func shrink(_ x: Rows, _ a: Int, rank: Int, column: Int) {
      compute.multiply(
        m: rows.count, n: rank, k: lora.inputs, x, Rows(adapter.parameter(a), stride: lora.inputs), transposedB: true,
        into: inner.from(row: first, column: column))
    }
    if appliesDropout {
      for module in lora.modules {
        shrink(drop(x, rows, module), module.a, rank: module.rank, column: module.column)
      }
    } else {
      shrink(x.from(row: first), lora.a, rank: lora.rankSum, column: 0)
    }
  }

  private func addLoRA(
    _ lora: TrainableAdapter.Stack, _ weights: StackedLinear, _ rows: Range<Int>, _ x: Rows, _ y: Rows, _ inner: Rows
  ) {
    shrink(lora, rows, x, into: inner)
    for module in lora.modules {
      let out = y.from(row: rows.lowerBound, column: weights.offset(module.linear))
      compute.multiply(
        m: rows.count, n: module.outputs, k: module.rank, alpha: module.scale,
        inner.from(row: rows.lowerBound, column: module.column),
        Rows(adapter.parameter(module.b), stride: module.rank), transposedB: true, accumulation: .add, into: out)
      if let factor = adapter.factors[module.index] {
        compute.scaleColumns(out, by: factor.pointer, rows: rows.count, columns: module.outputs)
      }
    }
  }

  /// Slices of the way back through a stack: gradients of the adapter, and dx = dy·W + D(s·dy·B·A) if it is wanted.
  /// - Parameters:
  ///   - dy: [tokens][≥ outputs]
  ///   - output: what the forward pass computed, for DoRA's magnitudes
  ///   - dx: [tokens][columns], written; `nil` where nothing below is trained
  func linearBackward(
    _ layer: Int, _ stack: Int, dy: Rows, x: UnsafeMutablePointer<Float>, inner: Rows, output: Rows,
    dx: UnsafeMutablePointer<Float>?
  ) -> [Slice] {
    let weights = stackWeights(layer, stack)
    let lora = adapter.stacks[layer][stack]
    // A stack of one has no padding to read past.
    let single = StackedLinear.stacks[stack].count == 1 ? StackedLinear.stacks[stack].first : nil
    let outputs = single.map { $0.shape(config).output } ?? weights.matrix.outputs
    var slices: [Slice] = []
    var gradient = dy
    if adapter.usesDoRA, let lora {
      // The residual's gradient goes on unscaled, so the factors are applied to a copy.
      gradient = Rows(scratch.scaled.pointer, stride: weights.matrix.paddedOutputs)
      slices += byRows(Cost.simple * outputs) { [self, gradient] rows in
        scaleByDoRA(lora, weights, outputs, rows, dy: dy, output: output, into: gradient)
      }
    }
    let input = Rows(x, stride: weights.matrix.columns)
    if let lora {
      slices += byRows(2 * lora.operations) { [self, gradient] rows in
        addGradients(lora, weights, rows, dy: gradient, x: input, inner: inner)
      }
    }
    guard let dx else { return slices }
    let out = Rows(dx, stride: weights.matrix.columns)
    for rows in stretches {
      for part in weights.matrix.backwardParts(
        outputs: outputs, rows: rows.count, operations: Self.sliceOperations)
      {
        slices.append { [self, gradient] in
          compute.productBackward(
            weights.matrix, part: part, dy: gradient.from(row: rows.lowerBound), rows: rows.count,
            into: out.from(row: rows.lowerBound))
        }
      }
    }
    if let lora { slices += byRows(lora.operations) { [self] rows in addInputGradient(lora, rows, into: out) } }
    return slices
  }

  private func addGradients(
    _ lora: TrainableAdapter.Stack, _ weights: StackedLinear, _ rows: Range<Int>, dy: Rows, x: Rows, inner: Rows
  ) {
    let first = rows.lowerBound
    let dInner = Rows(scratch.dInner.pointer, stride: lora.rankSum).from(row: first)
    func addShrinkGradient(_ dInner: Rows, _ x: Rows, _ a: Int, rank: Int) {
      compute.multiply(
        m: rank, n: lora.inputs, k: rows.count, dInner, transposedA: true, x, accumulation: .chain,
        into: Rows(adapter.gradient(a), stride: lora.inputs))
    }
    for module in lora.modules {
      let gradient = dy.from(row: first, column: weights.offset(module.linear))
      compute.multiply(
        m: rows.count, n: module.rank, k: module.outputs, alpha: module.scale, gradient,
        Rows(adapter.parameter(module.b), stride: module.rank), into: dInner.from(column: module.column))
      compute.multiply(
        m: module.outputs, n: module.rank, k: rows.count, alpha: module.scale, gradient, transposedA: true,
        inner.from(row: first, column: module.column), accumulation: .chain,
        into: Rows(adapter.gradient(module.b), stride: module.rank))
      if appliesDropout {
        addShrinkGradient(dInner.from(column: module.column), drop(x, rows, module), module.a, rank: module.rank)
      }
    }
    if !appliesDropout { addShrinkGradient(dInner, x.from(row: first), lora.a, rank: lora.rankSum) }
  }

  private func addInputGradient(_ lora: TrainableAdapter.Stack, _ rows: Range<Int>, into dx: Rows) {
    let first = rows.lowerBound
    let dInner = Rows(scratch.dInner.pointer, stride: lora.rankSum).from(row: first)
    guard appliesDropout else {
      return compute.multiply(
        m: rows.count, n: lora.inputs, k: lora.rankSum, dInner,
        Rows(adapter.parameter(lora.a), stride: lora.inputs), accumulation: .add, into: dx.from(row: first))
    }
    let dropped = Rows(scratch.dDropped.pointer, stride: lora.inputs)
    for module in lora.modules {
      compute.multiply(
        m: rows.count, n: lora.inputs, k: module.rank, dInner.from(column: module.column),
        Rows(adapter.parameter(module.a), stride: lora.inputs), into: dropped)
      compute.dropout(
        dropped, into: dx.from(row: first), columns: lora.inputs, probability: dropout, keys: keys(module)[rows],
        positions: slab.positions[rows], adding: true)
    }
  }

  // MARK: dropout

  private var appliesDropout: Bool { isTraining && dropout > 0 }

  /// D(x) of some tokens, from the first row of a buffer on.
  private func drop(_ x: Rows, _ rows: Range<Int>, _ module: TrainableAdapter.Module) -> Rows {
    let out = Rows(scratch.dropped.pointer, stride: module.inputs)
    compute.dropout(
      x.from(row: rows.lowerBound), into: out, columns: module.inputs, probability: dropout, keys: keys(module)[rows],
      positions: slab.positions[rows])
    return out
  }

  private func keys(_ module: TrainableAdapter.Module) -> [CounterKey] {
    slab.keys { ordinal in
      CounterKey(
        UInt64(bitPattern: Int64(seed)), EpochOrder.Stream.dropout.rawValue, UInt64(step), UInt64(ordinal),
        UInt64(module.index))
    }
  }
}

extension TrainableAdapter.Stack {
  /// Multiplications and additions of one token's way through the stack's adapters.
  fileprivate var operations: Int { modules.reduce(0) { $0 + 2 * $1.rank * ($1.inputs + $1.outputs) } }
}
