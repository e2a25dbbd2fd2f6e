import Formats
import Kernels
import Model

extension TrainingPass {
  /// Computes the last layer's hidden states, and keeps what the backward pass needs.
  func forward() throws(TrainingInterruption) {
    try byRows(Cost.simple * config.hiddenSize) { rows in
      let x = activations.input(0, tokens: tokens)
      for row in rows { base.embedding.copyRow(Int(microbatch.tokens[row]), to: x.from(row: row).pointer) }
    }
    for layer in 0..<config.layerCount { try forward(layer) }
  }

  /// Computes a layer, from its input to the next layer's input.
  /// - Parameter again: whether the backward pass computes the layer again; then only what the layer keeps is computed
  func forward(_ layer: Int, again: Bool = false) throws(TrainingInterruption) {
    let weights = base.layers[layer]
    let kept = activations.layer(layer, tokens: tokens)
    let x = activations.input(layer, tokens: tokens)
    let next = activations.input(layer + 1, tokens: tokens)
    let normed = scratch.normed.rows(tokens, of: config.hiddenSize)
    let activated = scratch.activated.rows(tokens, of: config.intermediateSize)
    let simple = Cost.simple * config.hiddenSize

    try byRows(simple) { rows in norm(x, weights.inputNorm, rows, into: normed) }
    try linear(layer, .queryKeyValue, normed, into: kept.queryKeyValue, inner: kept.inner.queryKeyValue)
    try byRows(Cost.simple * config.querySize) { rows in
      rotate(kept.queryKeyValue, weights.queryKeyValue, rows)
    }
    try attend(kept, weights.queryKeyValue)
    let output = scratch.projected.rows(tokens, of: weights.output.matrix.paddedOutputs)
    try linear(layer, .output, kept.attended, into: output, inner: kept.inner.output)
    try byRows(2 * simple) { rows in
      if let copies = kept.outputs { copy(output, rows, into: copies.output) }
      sum(x, output, rows, into: kept.middle)
      norm(kept.middle, weights.postAttentionNorm, rows, into: normed)
    }

    try linear(layer, .gateUp, normed, into: kept.gateUp, inner: kept.inner.gateUp)
    try activate(kept.gateUp, weights.gateUp, into: activated)
    if again, !adapter.usesDoRA {
      // Of the projection down, the backward pass only needs the inner activations.
      return try shrink(layer, .down, activated, into: kept.inner.down)
    }
    let down = scratch.projected.rows(tokens, of: weights.down.matrix.paddedOutputs)
    try linear(layer, .down, activated, into: down, inner: kept.inner.down)
    try byRows(simple) { rows in
      if let copies = kept.outputs { copy(down, rows, into: copies.down) }
      sum(kept.middle, down, rows, into: next)
    }
  }

  func norm(_ x: Rows, _ weight: UnsafePointer<Float>, _ rows: Range<Int>, into out: Rows) {
    compute.rmsNorm(
      x.from(row: rows.lowerBound).pointer, weight: weight, epsilon: config.rmsNormEpsilon, rows: rows.count,
      size: config.hiddenSize, into: out.from(row: rows.lowerBound).pointer)
  }

  /// Rotates queries and keys by their positions (RoPE), or by the negative angles if `backward` is true.
  func rotate(_ queryKeyValue: Rows, _ stack: StackedWeights, _ rows: Range<Int>, backward: Bool = false) {
    for (module, heads) in [(Projection.q, config.headCount), (.k, config.keyValueHeadCount)] {
      compute.rotate(
        queryKeyValue.from(row: rows.lowerBound, column: stack.offset(module)), positions: microbatch.positions[rows],
        heads: heads, headSize: config.headSize, cosine: model.rope.cosine.pointer, sine: model.rope.sine.pointer,
        backward: backward)
    }
  }

  private func attend(_ kept: LayerActivations, _ stack: StackedWeights) throws(TrainingInterruption) {
    for part in model.attention.parts(rows: microbatch.rows, operations: Self.turnOperations / 2) {
      try slices.slice {
        model.attention.forward(
          compute, rows: microbatch.rows, part: part, queries: kept.queryKeyValue.from(column: stack.offset(.q)),
          keys: kept.queryKeyValue.from(column: stack.offset(.k)),
          values: kept.queryKeyValue.from(column: stack.offset(.v)), out: kept.attended, logSumExp: kept.logSumExp)
      }
    }
  }

  /// out = silu(gate) · up, [tokens][intermediate].
  func activate(_ gateUp: Rows, _ stack: StackedWeights, into out: Rows) throws(TrainingInterruption) {
    try byRows(Cost.exponential * config.intermediateSize) { rows in
      let from = gateUp.from(row: rows.lowerBound)
      compute.swiglu(
        gate: from.pointer + stack.offset(.gate), up: from.pointer + stack.offset(.up), ld: from.stride,
        rows: rows.count, size: config.intermediateSize, into: out.from(row: rows.lowerBound).pointer)
    }
  }

  private func sum(_ x: Rows, _ y: Rows, _ rows: Range<Int>, into out: Rows) {
    let first = rows.lowerBound
    compute.sum(
      x.from(row: first), y.from(row: first), rows: rows.count, columns: config.hiddenSize, into: out.from(row: first))
  }

  private func copy(_ y: Rows, _ rows: Range<Int>, into out: Rows) {
    let first = rows.lowerBound
    compute.copy(y.from(row: first), rows: rows.count, columns: config.hiddenSize, into: out.from(row: first))
  }
}
