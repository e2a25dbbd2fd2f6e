import Kernels
import Model

/// The linear modules: y = W·x + s·B·A·D(x), with DoRA's factors where it is used, and their gradients.
extension TrainingPass {
  /// Slices of a stack's outputs for all tokens. x: [tokens][columns]; y: [tokens][padded outputs].
  func linear(
    _ layer: Int, _ stack: Int, _ x: UnsafeMutablePointer<Float>, into y: UnsafeMutablePointer<Float>, inner: Rows
  ) -> [Slice] {
    let weights = stackWeights(layer, stack).matrix
    let ld = weights.paddedOutputs
    let rounded = scratch.rounded
    var slices: [Slice] = [{ [self] in compute.round(x, rows: tokens, for: weights, into: rounded) }]
    for groups in weights.outputRanges(rows: tokens, operations: Self.sliceOperations) {
      slices.append { [self] in
        compute.product(weights, groups: groups, x, rows: tokens, rounded: rounded, into: y)
      }
    }
    if usesAdapter, let lora = adapter.stacks[layer][stack] {
      slices.append { [self] in
        addLoRA(lora, stackWeights(layer, stack), Rows(x, stride: lora.inputs), Rows(y, stride: ld), inner)
      }
    }
    return slices
  }

  /// A stack's inner activations D(x)·Aᵀ alone.
  func shrink(_ layer: Int, _ stack: Int, _ x: UnsafeMutablePointer<Float>, into inner: Rows) {
    guard usesAdapter, let lora = adapter.stacks[layer][stack] else { return }
    shrink(lora, Rows(x, stride: lora.inputs), into: inner)
  }

  private func shrink(_ lora: TrainableAdapter.Stack, _ x: Rows, into inner: Rows) {
    if appliesDropout {
      for module in lora.modules {
        shrink(
          drop(x, module), module.a, rank: module.rank, inputs: lora.inputs, into: inner.from(column: module.column))
      }
    } else {
      shrink(x, lora.a, rank: lora.rankSum, inputs: lora.inputs, into: inner)
    }
  }

  private func addLoRA(
    _ lora: TrainableAdapter.Stack, _ weights: StackedLinear, _ x: Rows, _ y: Rows, _ inner: Rows
  ) {
    shrink(lora, x, into: inner)
    for module in lora.modules {
      let out = y.from(column: weights.offset(module.linear))
      compute.multiply(
        m: tokens, n: module.outputs, k: module.rank, alpha: module.scale, inner.from(column: module.column),
        Rows(adapter.parameter(module.b), stride: module.rank), transposedB: true, beta: 1, into: out)
      if let factor = adapter.factors[module.index] {
        compute.scaleColumns(out, by: factor.pointer, rows: tokens, columns: module.outputs)
      }
    }
  }

  private func shrink(_ x: Rows, _ a: Int, rank: Int, inputs: Int, into inner: Rows) {
    compute.multiply(
      m: tokens, n: rank, k: inputs, x, Rows(adapter.parameter(a), stride: inputs), transposedB: true, into: inner)
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
      slices.append { [self, gradient] in scaleByDoRA(lora, weights, outputs, dy: dy, output: output, into: gradient) }
    }
    let input = Rows(x, stride: weights.matrix.columns)
    if let lora {
      slices.append { [self, gradient] in addGradients(lora, weights, dy: gradient, x: input, inner: inner) }
    }
    guard let dx else { return slices }
    let out = Rows(dx, stride: weights.matrix.columns)
    for range in weights.matrix.backwardRanges(
      outputs: outputs, rows: tokens, operations: Self.sliceOperations)
    {
      slices.append { [self, gradient] in
        compute.productBackward(weights.matrix, outputs: range, gradient, rows: tokens, into: out)
      }
    }
    if let lora { slices.append { [self] in addInputGradient(lora, into: out) } }
    return slices
  }

  private func addGradients(
    _ lora: TrainableAdapter.Stack, _ weights: StackedLinear, dy: Rows, x: Rows, inner: Rows
  ) {
    let dInner = Rows(scratch.dInner.pointer, stride: lora.rankSum)
    for module in lora.modules {
      let gradient = dy.from(column: weights.offset(module.linear))
      let b = Rows(adapter.parameter(module.b), stride: module.rank)
      compute.multiply(
        m: tokens, n: module.rank, k: module.outputs, alpha: module.scale, gradient, b,
        into: dInner.from(column: module.column))
      compute.multiply(
        m: module.outputs, n: module.rank, k: tokens, alpha: module.scale, gradient, transposedA: true,
        inner.from(column: module.column), beta: 1, into: Rows(adapter.gradient(module.b), stride: module.rank))
      if appliesDropout {
        addShrinkGradient(
          dInner.from(column: module.column), drop(x, module), module.a, rank: module.rank, inputs: lora.inputs)
      }
    }
    if !appliesDropout { addShrinkGradient(dInner, x, lora.a, rank: lora.rankSum, inputs: lora.inputs) }
  }

  private func addShrinkGradient(_ dInner: Rows, _ x: Rows, _ a: Int, rank: Int, inputs: Int) {
    compute.multiply(
      m: rank, n: inputs, k: tokens, dInner, transposedA: true, x, beta: 1,
      into: Rows(adapter.gradient(a), stride: inputs))
  }

  private func addInputGradient(_ lora: TrainableAdapter.Stack, into dx: Rows) {
    let dInner = Rows(scratch.dInner.pointer, stride: lora.rankSum)
    guard appliesDropout else {
      return compute.multiply(
        m: tokens, n: lora.inputs, k: lora.rankSum, dInner, Rows(adapter.parameter(lora.a), stride: lora.inputs),
        beta: 1, into: dx)
    }
    let dropped = Rows(scratch.dDropped.pointer, stride: lora.inputs)
    for module in lora.modules {
      compute.multiply(
        m: tokens, n: lora.inputs, k: module.rank, dInner.from(column: module.column),
        Rows(adapter.parameter(module.a), stride: lora.inputs), into: dropped)
      compute.dropout(
        dropped, into: dx, columns: lora.inputs, probability: dropout, keys: keys(module), positions: slab.positions,
        adding: true)
    }
  }

  // MARK: dropout

  private var appliesDropout: Bool { isTraining && dropout > 0 }

  private func drop(_ x: Rows, _ module: TrainableAdapter.Module) -> Rows {
    let out = Rows(scratch.dropped.pointer, stride: module.inputs)
    compute.dropout(
      x, into: out, columns: module.inputs, probability: dropout, keys: keys(module), positions: slab.positions)
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
