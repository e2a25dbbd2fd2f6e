import Formats
import Kernels
import Model

extension TrainingPass {
  /// Computes the last layer's hidden states, and keeps what the backward pass needs.
  func forward() throws(TrainingInterruption) {
    try byRows(Cost.simple * config.hiddenSize) { rows in
      let x = activations.input(0, tokens: tokens)
      for row in rows { base.embedding.copyRow(Int(microbatch.tokens[row]), to: x.from(row: row).pointer) }
      let factor = config.architecture.embeddingMultiplier
      guard factor != 1 else { return }
      compute.scale(x.from(row: rows.lowerBound), by: factor, rows: rows.count, columns: config.hiddenSize)
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

    if let weight = weights[.attentionInput] { try byRows(simple) { rows in norm(x, weight, rows, into: normed) } }
    let attentionInput = weights[.attentionInput] == nil ? x : normed
    try linear(layer, .queryKeyValue, attentionInput, into: kept.queryKeyValue, inner: kept.inner.queryKeyValue)
    try byRows(Cost.simple * config.querySize) { rows in
      normalizeHeads(kept, weights, rows)
      rotate(kept.queryKeyValue, layer, rows)
    }
    try attend(kept, layer)
    let output = scratch.projected.rows(tokens, of: weights.output.matrix.paddedOutputs)
    try linear(layer, .output, kept.attended, into: output, inner: kept.inner.output)
    try byRows(2 * simple) { rows in
      if let copies = kept.outputs { copy(output, rows, into: copies.output) }
      finishBranch(output, weights[.attentionOutput], rows)
      sum(x, output, rows, into: kept.middle)
      if let weight = weights[.feedForwardInput] { norm(kept.middle, weight, rows, into: normed) }
    }

    let feedForwardInput = weights[.feedForwardInput] == nil ? kept.middle : normed
    try linear(layer, .gateUp, feedForwardInput, into: kept.gateUp, inner: kept.inner.gateUp)
    try activate(kept.gateUp, weights.gateUp, into: activated)
    if again, kept.outputs == nil {
      // Of the projection down, the backward pass only needs the inner activations.
      return try shrink(layer, .down, activated, into: kept.inner.down)
    }
    let down = scratch.projected.rows(tokens, of: weights.down.matrix.paddedOutputs)
    try linear(layer, .down, activated, into: down, inner: kept.inner.down)
    try byRows(simple) { rows in
      if let copies = kept.outputs { copy(down, rows, into: copies.down) }
      finishBranch(down, weights[.feedForwardOutput], rows)
      sum(kept.middle, down, rows, into: next)
    }
  }

  func norm(_ x: Rows, _ weight: UnsafePointer<Float>, _ rows: Range<Int>, into out: Rows) {
    compute.rmsNorm(
      x.from(row: rows.lowerBound).pointer, weight: weight, epsilon: config.rmsNormEpsilon, rows: rows.count,
      size: config.hiddenSize, into: out.from(row: rows.lowerBound).pointer)
  }

  /// What a projection adds to the residual stream, in place.
  private func finishBranch(_ x: Rows, _ norm: UnsafePointer<Float>?, _ rows: Range<Int>) {
    compute.finishBranch(x.from(row: rows.lowerBound), norm: norm, rows: rows.count, config)
  }

  /// Keeps queries and keys as they are, and applies their norms, where the layer has such.
  private func normalizeHeads(_ kept: LayerActivations, _ weights: Base.Layer, _ rows: Range<Int>) {
    if let copy = kept.projectedQueryKey {
      compute.copy(
        kept.queryKeyValue.from(row: rows.lowerBound), rows: rows.count, columns: copy.stride,
        into: copy.from(row: rows.lowerBound))
    }
    for part in queryKeyParts(weights) {
      guard let weight = weights[part.norm] else { continue }
      let values = kept.queryKeyValue.from(row: rows.lowerBound, column: part.offset)
      compute.rmsNorm(
        values, weight: weight, epsilon: config.rmsNormEpsilon, rows: rows.count, groups: part.groups,
        size: config.size(of: part.norm), into: values)
    }
  }

  /// Queries and keys: their norms, the values that are normalised together, the first column and the heads of each.
  func queryKeyParts(_ weights: Base.Layer) -> [(norm: LayerNorm, groups: Int, offset: Int, heads: Int)] {
    let offsets = weights.queryKeyValue.attentionOffsets(config)
    return [(.queries, offsets.q, config.headCount), (.keys, offsets.k, config.keyValueHeadCount)].map {
      norm, offset, heads in
      (norm, heads * config.headSize / config.size(of: norm), offset, heads)
    }
  }

  /// Rotates queries and keys by their positions (RoPE), or by the negative angles if `backward` is true.
  func rotate(_ queryKeyValue: Rows, _ layer: Int, _ rows: Range<Int>, backward: Bool = false) {
    guard let rope = model.rope[layer] else { return }
    for part in queryKeyParts(base.layers[layer]) {
      compute.rotate(
        queryKeyValue.from(row: rows.lowerBound, column: part.offset), positions: microbatch.positions[rows],
        heads: part.heads, headSize: config.headSize, rotarySize: config.rotarySize, cosine: rope.cosine.pointer,
        sine: rope.sine.pointer, backward: backward)
    }
  }

  private func attend(_ kept: LayerActivations, _ layer: Int) throws(TrainingInterruption) {
    let attention = model.attention[layer]
    let offsets = base.layers[layer].queryKeyValue.attentionOffsets(config)
    for part in attention.parts(rows: microbatch.rows, operations: Self.turnOperations / 2) {
      try slices.slice {
        attention.forward(
          compute, rows: microbatch.rows, part: part, queries: kept.queryKeyValue.from(column: offsets.q),
          keys: kept.queryKeyValue.from(column: offsets.k), values: kept.queryKeyValue.from(column: offsets.v),
          out: kept.attended, logSumExp: kept.logSumExp)
      }
    }
  }

  /// out = activation(gate) · up, [tokens][intermediate].
  func activate(_ gateUp: Rows, _ stack: StackedWeights, into out: Rows) throws(TrainingInterruption) {
    let offsets = stack.feedForwardOffsets(config)
    try byRows(Cost.exponential * config.intermediateSize) { rows in
      let from = gateUp.from(row: rows.lowerBound)
      compute.gated(
        config.architecture.activation, gate: from.pointer + offsets.gate, up: from.pointer + offsets.up,
        ld: from.stride, rows: rows.count, size: config.intermediateSize, into: out.from(row: rows.lowerBound).pointer)
    }
  }

  func sum(_ x: Rows, _ y: Rows, _ rows: Range<Int>, into out: Rows) {
    let first = rows.lowerBound
    compute.sum(
      x.from(row: first), y.from(row: first), rows: rows.count, columns: config.hiddenSize, into: out.from(row: first))
  }

  private func copy(_ y: Rows, _ rows: Range<Int>, into out: Rows) {
    let first = rows.lowerBound
    compute.copy(y.from(row: first), rows: rows.count, columns: config.hiddenSize, into: out.from(row: first))
  }
}
