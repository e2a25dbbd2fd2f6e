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
    let (gate, up) = (weights.gateUp.offset(.gate), weights.gateUp.offset(.up))
    let size = config.intermediateSize
    let gradient = scratch.gradient.rows(tokens, of: config.hiddenSize)
    let normed = scratch.normed.rows(tokens, of: config.hiddenSize)
    let dNormed = scratch.dNormed.rows(tokens, of: config.hiddenSize)
    let activated = scratch.activated.rows(tokens, of: size)
    let dActivated = scratch.dActivated.rows(tokens, of: size)
    let dGateUp = scratch.dGateUp.rows(tokens, of: weights.gateUp.matrix.paddedOutputs)

    // If the layer was computed again, its SwiGLU activations are still in this buffer.
    if !again { try activate(kept.gateUp, weights.gateUp, into: activated) }
    try linearBackward(
      layer, .down, dy: gradient, x: activated, inner: kept.inner.down, output: kept.outputs?.down, dx: dActivated)
    try byRows(Cost.exponential * size) { rows in
      let (gateUp, into) = (kept.gateUp.from(row: rows.lowerBound), dGateUp.from(row: rows.lowerBound))
      compute.swigluBackward(
        gate: gateUp.pointer + gate, up: gateUp.pointer + up, dout: dActivated.from(row: rows.lowerBound).pointer,
        ld: into.stride, rows: rows.count, size: size, dgate: into.pointer + gate, dup: into.pointer + up)
      norm(kept.middle, weights.postAttentionNorm, rows, into: normed)
    }
    try linearBackward(
      layer, .gateUp, dy: dGateUp, x: normed, inner: kept.inner.gateUp, output: kept.gateUp, dx: dNormed)
    try normBackward(kept.middle, weights.postAttentionNorm, dNormed, adding: gradient)
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

    try linearBackward(
      layer, .output, dy: gradient, x: kept.attended, inner: kept.inner.output, output: kept.outputs?.output,
      dx: dAttended)
    try attendBackward(kept, weights.queryKeyValue, dout: dAttended, into: dQueryKeyValue)
    try byRows(2 * Cost.simple * config.querySize) { rows in
      rotate(dQueryKeyValue, weights.queryKeyValue, rows, backward: true)
      if adapter.usesDoRA { rotate(kept.queryKeyValue, weights.queryKeyValue, rows, backward: true) }
      norm(input, weights.inputNorm, rows, into: normed)
    }
    try linearBackward(
      layer, .queryKeyValue, dy: dQueryKeyValue, x: normed, inner: kept.inner.queryKeyValue,
      output: kept.queryKeyValue, dx: isLowest ? nil : dNormed)
    if !isLowest { try normBackward(input, weights.inputNorm, dNormed, adding: gradient) }
  }

  private func attendBackward(
    _ kept: LayerActivations, _ stack: StackedWeights, dout: Rows, into gradients: Rows
  ) throws(TrainingInterruption) {
    let (q, k, v) = (stack.offset(.q), stack.offset(.k), stack.offset(.v))
    let perHead = scratch.perHead.rows(2 * tokens, of: config.querySize).pointer
    // The backward pass has five products for the forward pass's two.
    for part in model.attention.parts(rows: microbatch.rows, operations: Self.turnOperations / 5) {
      try slices.slice {
        model.attention.backward(
          compute, rows: microbatch.rows, part: part, queries: kept.queryKeyValue.from(column: q),
          keys: kept.queryKeyValue.from(column: k), values: kept.queryKeyValue.from(column: v), out: kept.attended,
          dout: dout, logSumExp: kept.logSumExp, dqueries: gradients.from(column: q), perHead: perHead)
      }
    }
    try byRows(Cost.simple * 2 * config.querySize) { rows in
      model.attention.sumHeadGroups(
        compute, tokens: tokens, range: rows, perHead: perHead, dkeys: gradients.from(column: k),
        dvalues: gradients.from(column: v))
    }
  }

  private func normBackward(
    _ x: Rows, _ weight: UnsafePointer<Float>, _ dout: Rows, adding dx: Rows
  ) throws(TrainingInterruption) {
    try byRows(Cost.simple * config.hiddenSize) { rows in
      let first = rows.lowerBound
      compute.rmsNormBackward(
        x.from(row: first).pointer, weight: weight, epsilon: config.rmsNormEpsilon,
        dout: dout.from(row: first).pointer, rows: rows.count, size: config.hiddenSize,
        adding: dx.from(row: first).pointer)
    }
  }
}
