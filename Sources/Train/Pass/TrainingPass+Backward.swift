import Formats
import Kernels
import Model

extension TrainingPass {
  /// Computes the gradients of the adapter, from the gradient by the last hidden states in `scratch.gradient` back to
  /// the lowest trained layer. The layers below that one need no gradient.
  func backward() throws(TrainingInterruption) {
    for layer in (adapter.lowestLayer..<config.layerCount).reversed() { try backward(layer) }
  }

  /// Turns the gradient by the layer's output, in `scratch.gradient`, into the gradient by its input.
  private func backward(_ layer: Int) throws(TrainingInterruption) {
    let again = layer < activations.firstKept(tokens: tokens)
    if again { try forward(layer, again: true) }
    try feedForwardBackward(layer, again: again)
    try attentionBackward(layer)
  }

  private func feedForwardBackward(_ layer: Int, again: Bool) throws(TrainingInterruption) {
    let weights = base.layers[layer]
    let kept = activations.layer(layer, tokens: tokens)
    let (gate, up) = weights.gateUp.feedForwardOffsets(config)
    let size = config.intermediateSize
    let gradient = scratch.gradient.rows(tokens, of: config.hiddenSize)
    let normed = scratch.normed.rows(tokens, of: config.hiddenSize)
    let dNormed = scratch.dNormed.rows(tokens, of: config.hiddenSize)
    let activated = scratch.activated.rows(tokens, of: size)
    let dActivated = scratch.dActivated.rows(tokens, of: size)
    let dGateUp = scratch.dGateUp.rows(tokens, of: weights.gateUp.matrix.paddedOutputs)

    // If the layer was computed again, its activations are still in this buffer.
    if !again { try activate(kept.gateUp, weights.gateUp, into: activated) }
    let dDown = try branchGradient(weights[.feedForwardOutput], kept.outputs?.down)
    try linearBackward(
      layer, .down, dy: dDown, x: activated, inner: kept.inner.down, output: kept.outputs?.down, dx: dActivated)
    try byRows(Cost.exponential * size) { rows in
      let (gateUp, into) = (kept.gateUp.from(row: rows.lowerBound), dGateUp.from(row: rows.lowerBound))
      compute.gatedBackward(
        config.architecture.activation, gate: gateUp.pointer + gate, up: gateUp.pointer + up,
        dout: dActivated.from(row: rows.lowerBound).pointer, ld: into.stride, rows: rows.count, size: size,
        dgate: into.pointer + gate, dup: into.pointer + up)
      if let weight = weights[.feedForwardInput] { norm(kept.middle, weight, rows, into: normed) }
    }
    try linearBackward(
      layer, .gateUp, dy: dGateUp, x: weights[.feedForwardInput] == nil ? kept.middle : normed,
      inner: kept.inner.gateUp, output: kept.gateUp, dx: dNormed)
    try inputBackward(kept.middle, weights[.feedForwardInput], dNormed, adding: gradient)
  }

  private func attentionBackward(_ layer: Int) throws(TrainingInterruption) {
    let weights = base.layers[layer]
    let kept = activations.layer(layer, tokens: tokens)
    let input = activations.input(layer, tokens: tokens)
    let gradient = scratch.gradient.rows(tokens, of: config.hiddenSize)
    let normed = scratch.normed.rows(tokens, of: config.hiddenSize)
    let dNormed = scratch.dNormed.rows(tokens, of: config.hiddenSize)
    let dAttended = scratch.dAttended.rows(tokens, of: config.querySize)
    let dQueryKeyValue = scratch.dQueryKeyValue.rows(tokens, of: weights.queryKeyValue.matrix.paddedOutputs)
    // The lowest trained layer's input needs no gradient: the embedding is not trained.
    let isLowest = layer == adapter.lowestLayer

    let dOutput = try branchGradient(weights[.attentionOutput], kept.outputs?.output)
    try linearBackward(
      layer, .output, dy: dOutput, x: kept.attended, inner: kept.inner.output, output: kept.outputs?.output,
      dx: dAttended)
    try attendBackward(kept, layer, dout: dAttended, into: dQueryKeyValue)
    try byRows(2 * Cost.simple * config.querySize) { rows in
      rotate(dQueryKeyValue, layer, rows, backward: true)
      headNormsBackward(kept, weights, rows, replacing: dQueryKeyValue)
      if adapter.usesDoRA { restoreProjected(kept, layer, rows) }
      if let weight = weights[.attentionInput] { norm(input, weight, rows, into: normed) }
    }
    try linearBackward(
      layer, .queryKeyValue, dy: dQueryKeyValue, x: weights[.attentionInput] == nil ? input : normed,
      inner: kept.inner.queryKeyValue, output: kept.queryKeyValue, dx: isLowest ? nil : dNormed)
    if !isLowest { try inputBackward(input, weights[.attentionInput], dNormed, adding: gradient) }
  }

  /// The gradient by a projection's outputs, of the gradient by the residual stream that they were added to after a norm
  /// and a multiplier.
  /// - Parameter output: the outputs, where there is a norm
  private func branchGradient(
    _ weight: UnsafePointer<Float>?, _ output: Rows?
  ) throws(TrainingInterruption) -> Rows {
    let gradient = scratch.gradient.rows(tokens, of: config.hiddenSize)
    let factor = config.architecture.residualMultiplier
    guard weight != nil || factor != 1 else { return gradient }
    let branch = scratch.dBranch.rows(tokens, of: config.hiddenSize)
    try byRows(2 * Cost.simple * config.hiddenSize) { rows in
      let (first, into) = (rows.lowerBound, branch.from(row: rows.lowerBound))
      compute.copy(gradient.from(row: first), rows: rows.count, columns: config.hiddenSize, into: into)
      if factor != 1 { compute.scale(into, by: factor, rows: rows.count, columns: config.hiddenSize) }
      guard let weight, let output else { return }
      compute.rmsNormBackward(
        output.from(row: first), weight: weight, epsilon: config.rmsNormEpsilon, rows: rows.count,
        size: config.hiddenSize, replacing: into)
    }
    return branch
  }

  /// Turns the gradients by normalised queries and keys into those by the projections' outputs.
  private func headNormsBackward(
    _ kept: LayerActivations, _ weights: Base.Layer, _ rows: Range<Int>, replacing gradients: Rows
  ) {
    guard let projected = kept.projectedQueryKey else { return }
    for part in queryKeyParts(weights) {
      guard let weight = weights[part.norm] else { continue }
      compute.rmsNormBackward(
        projected.from(row: rows.lowerBound, column: part.offset), weight: weight, epsilon: config.rmsNormEpsilon,
        rows: rows.count, groups: part.groups, size: config.size(of: part.norm),
        replacing: gradients.from(row: rows.lowerBound, column: part.offset))
    }
  }

  /// Makes queries and keys what the projections gave.
  private func restoreProjected(_ kept: LayerActivations, _ layer: Int, _ rows: Range<Int>) {
    guard let projected = kept.projectedQueryKey else { return rotate(kept.queryKeyValue, layer, rows, backward: true) }
    compute.copy(
      projected.from(row: rows.lowerBound), rows: rows.count, columns: projected.stride,
      into: kept.queryKeyValue.from(row: rows.lowerBound))
  }

  private func attendBackward(
    _ kept: LayerActivations, _ layer: Int, dout: Rows, into gradients: Rows
  ) throws(TrainingInterruption) {
    let attention = model.attention[layer]
    let (q, k, v) = base.layers[layer].queryKeyValue.attentionOffsets(config)
    let perHead = scratch.perHead.rows(2 * tokens, of: config.querySize).pointer
    // The backward pass has five products for the forward pass's two.
    for part in attention.parts(rows: microbatch.rows, operations: Self.turnOperations / 5) {
      try slices.slice {
        attention.backward(
          compute, rows: microbatch.rows, part: part, queries: kept.queryKeyValue.from(column: q),
          keys: kept.queryKeyValue.from(column: k), values: kept.queryKeyValue.from(column: v), out: kept.attended,
          dout: dout, logSumExp: kept.logSumExp, dqueries: gradients.from(column: q), perHead: perHead)
      }
    }
    try byRows(Cost.simple * 2 * config.querySize) { rows in
      attention.sumHeadGroups(
        compute, tokens: tokens, range: rows, perHead: perHead, dkeys: gradients.from(column: k),
        dvalues: gradients.from(column: v))
    }
  }

  /// Adds the gradient by the input of attention or the feed-forward to that by the residual stream.
  /// - Parameter weight: of the norm between the two; `nil` without one
  private func inputBackward(
    _ x: Rows, _ weight: UnsafePointer<Float>?, _ dout: Rows, adding dx: Rows
  ) throws(TrainingInterruption) {
    try byRows(Cost.simple * config.hiddenSize) { rows in
      let first = rows.lowerBound
      guard let weight else { return sum(dx, dout, rows, into: dx) }
      compute.rmsNormBackward(
        x.from(row: first).pointer, weight: weight, epsilon: config.rmsNormEpsilon,
        dout: dout.from(row: first).pointer, rows: rows.count, size: config.hiddenSize,
        adding: dx.from(row: first).pointer)
    }
  }
}
