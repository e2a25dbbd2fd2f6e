import Formats
import Kernels
import Model

/// The projections: y = W·x + b + s·B·A·D(x), with DoRA's factors where it is used, and their gradients.
extension TrainingPass {
  /// A stack's outputs for all tokens.
  /// - Parameters:
  ///   - x: [tokens][columns], dense
  ///   - y: [tokens][padded outputs], written
  ///   - inner: D(x)·Aᵀ, written where the stack is trained
  func linear(
    _ layer: Int, _ stack: ProjectionStack, _ x: Rows, into y: Rows, inner: Rows
  ) throws(TrainingInterruption) {
    let stacked = base.layers[layer][stack]
    let weights = stacked.matrix
    for rows in productRanges {
      let (x, y) = (x.from(row: rows.lowerBound).pointer, y.from(row: rows.lowerBound).pointer)
      try slices.slice { compute.quantizeRows(x, rows: rows.count, for: weights, into: scratch.quantized) }
      let operations = compute.operations(Self.turnOperations, of: weights)
      for groups in weights.outputRanges(rows: rows.count, operations: operations) {
        try slices.slice {
          compute.product(weights, groups: groups, x, rows: rows.count, quantized: scratch.quantized, into: y)
        }
      }
    }
    if let lora = lora(layer, stack) {
      try byRows(lora.operations) { rows in addLoRA(lora, stacked, rows, x, y, inner) }
    }
    guard let bias = stacked.bias else { return }
    try byRows(Cost.simple * weights.paddedOutputs) { rows in
      compute.add(bias, to: y.from(row: rows.lowerBound), rows: rows.count, columns: weights.paddedOutputs)
    }
  }

  /// Computes only the inner activations of a stack, D(x)·Aᵀ.
  func shrink(
    _ layer: Int, _ stack: ProjectionStack, _ x: Rows, into inner: Rows
  ) throws(TrainingInterruption) {
    guard let lora = lora(layer, stack) else { return }
    try byRows(lora.operations) { rows in shrink(lora, rows, x, into: inner) }
  }

  private func shrink(_ lora: TrainableAdapter.Stack, _ rows: Range<Int>, _ x: Rows, into inner: Rows) {
    let first = rows.lowerBound
    func shrink(_ x: Rows, _ a: Int, rank: Int, column: Int) {
      compute.multiply(
        m: rows.count, n: rank, k: lora.inputs, x, Rows(adapter.parameter(a), stride: lora.inputs), transposedB: true,
        into: inner.from(row: first, column: column))
    }
    if let step = dropoutStep {
      for adapted in lora.projections {
        shrink(drop(x, rows, adapted, step), adapted.a, rank: adapted.rank, column: adapted.column)
      }
    } else {
      shrink(x.from(row: first), lora.a, rank: lora.rankSum, column: 0)
    }
  }

  private func addLoRA(
    _ lora: TrainableAdapter.Stack, _ weights: StackedWeights, _ rows: Range<Int>, _ x: Rows, _ y: Rows, _ inner: Rows
  ) {
    shrink(lora, rows, x, into: inner)
    for adapted in lora.projections {
      let out = y.from(row: rows.lowerBound, column: weights.offset(adapted.projection))
      compute.multiply(
        m: rows.count, n: adapted.outputs, k: adapted.rank, alpha: adapted.scale,
        inner.from(row: rows.lowerBound, column: adapted.column),
        Rows(adapter.parameter(adapted.b), stride: adapted.rank), transposedB: true, accumulation: .add, into: out)
      if let factor = adapter.factors[adapted.index] {
        compute.scaleColumns(out, by: factor.pointer, rows: rows.count, columns: adapted.outputs)
      }
    }
  }

  /// The backward pass of a stack: adds the gradients of its adapters and, if `dx` is given, computes dx = dy·W +
  /// D(s·dy·B·A).
  /// - Parameters:
  ///   - dy: [tokens][≥ outputs]
  ///   - x: [tokens][columns]: the input of the forward pass
  ///   - output: what the forward pass computed, for DoRA's magnitudes
  ///   - dx: [tokens][columns], written; `nil` if no lower layer is trained
  func linearBackward(
    _ layer: Int, _ stack: ProjectionStack, dy: Rows, x: Rows, inner: Rows, output: Rows?, dx: Rows?
  ) throws(TrainingInterruption) {
    let weights = base.layers[layer][stack]
    let lora = lora(layer, stack)
    // The outputs of a stack with one projection have no padding between projections.
    let projections = stack.projections(config)
    let single = projections.count == 1 ? projections.first : nil
    let outputs = single.map { $0.shape(config).output } ?? weights.matrix.outputs
    var dy = dy
    if let lora, let output, adapter.usesDoRA {
      // The residual stream's gradient stays unscaled, so the factors are applied to a copy.
      let scaled = scratch.scaled.rows(tokens, of: weights.matrix.paddedOutputs)
      try byRows(Cost.simple * outputs) { rows in
        scaleByDoRA(lora, weights, outputs, rows, dy: dy, output: output, into: scaled)
      }
      dy = scaled
    }
    if let lora {
      try byGroups(2 * lora.operations) { rows, groups in
        addGradients(lora, weights, rows, groups, dy: dy, x: x, inner: inner)
      }
    }
    guard let dx else { return }
    for rows in productRanges {
      try inputGradient(
        weights.matrix, outputs: outputs, dy: dy.from(row: rows.lowerBound), rows: rows.count,
        into: dx.from(row: rows.lowerBound))
    }
    if let lora { try byRows(lora.operations) { rows in addInputGradient(lora, rows, into: dx) } }
  }

  /// dx = dy · W of at most `productTokens` rows.
  /// - Parameters:
  ///   - dy: [rows][≥ outputs]
  ///   - dx: [rows][≥ columns]
  func inputGradient(
    _ w: Matrix, outputs: Int, dy: Rows, rows: Int, into dx: Rows
  ) throws(TrainingInterruption) {
    let packed = scratch.packedGradient
    if compute.packsGradients(of: w) {
      try slices.slice { compute.packGradient(dy, rows: rows, outputs: outputs, into: packed) }
    }
    for part in compute.backwardParts(w, outputs: outputs, rows: rows, operations: Self.turnOperations) {
      try slices.slice {
        compute.productBackward(w, part: part, outputs: outputs, dy: dy, packed: packed, rows: rows, into: dx)
      }
    }
  }

  /// - Parameter groups: the tokens' groups, from the first of `rows`
  private func addGradients(
    _ lora: TrainableAdapter.Stack, _ weights: StackedWeights, _ rows: Range<Int>, _ groups: [Int], dy: Rows, x: Rows,
    inner: Rows
  ) {
    let first = rows.lowerBound
    let dInner = scratch.dInner.rows(tokens, of: lora.rankSum).from(row: first)
    func addShrinkGradient(_ dInner: Rows, _ x: Rows, _ a: Int, rank: Int) {
      compute.multiply(
        m: rank, n: lora.inputs, k: rows.count, dInner, transposedA: true, x, accumulation: .chain,
        groups: groups, into: Rows(adapter.gradient(a), stride: lora.inputs))
    }
    for adapted in lora.projections {
      let gradient = dy.from(row: first, column: weights.offset(adapted.projection))
      compute.multiply(
        m: rows.count, n: adapted.rank, k: adapted.outputs, alpha: adapted.scale, gradient,
        Rows(adapter.parameter(adapted.b), stride: adapted.rank), into: dInner.from(column: adapted.column))
      compute.multiply(
        m: adapted.outputs, n: adapted.rank, k: rows.count, alpha: adapted.scale, gradient, transposedA: true,
        inner.from(row: first, column: adapted.column), accumulation: .chain, groups: groups,
        into: Rows(adapter.gradient(adapted.b), stride: adapted.rank))
      if let step = dropoutStep {
        addShrinkGradient(
          dInner.from(column: adapted.column), drop(x, rows, adapted, step), adapted.a, rank: adapted.rank)
      }
    }
    if dropoutStep == nil { addShrinkGradient(dInner, x.from(row: first), lora.a, rank: lora.rankSum) }
  }

  private func addInputGradient(_ lora: TrainableAdapter.Stack, _ rows: Range<Int>, into dx: Rows) {
    let first = rows.lowerBound
    let dInner = scratch.dInner.rows(tokens, of: lora.rankSum).from(row: first)
    guard let step = dropoutStep else {
      return compute.multiply(
        m: rows.count, n: lora.inputs, k: lora.rankSum, dInner,
        Rows(adapter.parameter(lora.a), stride: lora.inputs), accumulation: .add, into: dx.from(row: first))
    }
    let dropped = scratch.dDropped.rows(rows.count, of: lora.inputs)
    for adapted in lora.projections {
      compute.multiply(
        m: rows.count, n: lora.inputs, k: adapted.rank, dInner.from(column: adapted.column),
        Rows(adapter.parameter(adapted.a), stride: lora.inputs), into: dropped)
      compute.dropout(
        dropped, into: dx.from(row: first), columns: lora.inputs, probability: model.dropout,
        keys: keys(adapted, step)[rows], positions: microbatch.positions[rows], adding: true)
    }
  }

  // MARK: dropout

  /// D(x) of some tokens, written from the first row of a buffer on.
  private func drop(_ x: Rows, _ rows: Range<Int>, _ adapted: TrainableAdapter.AdaptedProjection, _ step: Int) -> Rows {
    let out = scratch.dropped.rows(rows.count, of: adapted.inputs)
    compute.dropout(
      x.from(row: rows.lowerBound), into: out, columns: adapted.inputs, probability: model.dropout,
      keys: keys(adapted, step)[rows], positions: microbatch.positions[rows])
    return out
  }

  private func keys(_ adapted: TrainableAdapter.AdaptedProjection, _ step: Int) -> [CounterKey] {
    microbatch.keys { ordinal in
      CounterKey(
        UInt64(bitPattern: Int64(model.seed)), EpochOrder.Stream.dropout.rawValue, UInt64(step), UInt64(ordinal),
        UInt64(adapted.index))
    }
  }
}

extension TrainableAdapter.Stack {
  /// Multiplications and additions that the stack's adapters take for one token.
  fileprivate var operations: Int { projections.reduce(0) { $0 + 2 * $1.rank * ($1.inputs + $1.outputs) } }
}
