import Formats
import Kernels
import Model

extension TrainingPass {
  /// Slices of the way back through a layer: `scratch.gradient`, that of its output, becomes that of its input.
  /// Below the lowest trained layer nothing needs a gradient.
  func backward(_ layer: Int) -> [Slice] {
    let again = layer < activations.firstKept(tokens: tokens)
    return (again ? forward(layer, again: true) : []) + feedForwardBackward(layer, again: again)
      + attentionBackward(layer)
  }

  private func feedForwardBackward(_ layer: Int, again: Bool) -> [Slice] {
    let weights = base.weights(layer: layer)
    let kept = activations.layer(layer, tokens: tokens)
    let gradient = hidden(scratch.gradient.pointer)
    let middle = hidden(kept.middle.pointer)
    let (activated, dActivated) = (scratch.activated.pointer, scratch.dActivated.pointer)
    let dGateUp = Rows(scratch.dGateUp.pointer, stride: weights.gateUp.matrix.paddedOutputs)
    let offsets = weights.gateUp.offset
    let size = config.intermediateSize
    // Computed again, the layer has left its activations where they are read.
    var slices = again ? [] : activate(kept, weights.gateUp)
    slices += linearBackward(
      layer, 3, dy: gradient, x: activated, inner: kept.inner[3], output: kept.outputs.last ?? kept.middle,
      dx: dActivated)
    slices += byRows(Cost.exponential * size) { [self] rows in
      let (gateUp, into) = (kept.gateUp.from(row: rows.lowerBound), dGateUp.from(row: rows.lowerBound))
      compute.swigluBackward(
        gate: gateUp.pointer + offsets(.gate), up: gateUp.pointer + offsets(.up),
        dout: dActivated + rows.lowerBound * size, ld: into.stride, rows: rows.count, size: size,
        dgate: into.pointer + offsets(.gate), dup: into.pointer + offsets(.up))
      norm(middle, weights.postAttentionNorm, rows, into: scratch.normed.pointer)
    }
    slices += linearBackward(
      layer, 2, dy: dGateUp, x: scratch.normed.pointer, inner: kept.inner[2], output: kept.gateUp,
      dx: scratch.dNormed.pointer)
    return slices + normBackward(middle, weights.postAttentionNorm, scratch.dNormed.pointer, adding: gradient)
  }

  private func attentionBackward(_ layer: Int) -> [Slice] {
    let weights = base.weights(layer: layer)
    let kept = activations.layer(layer, tokens: tokens)
    let gradient = hidden(scratch.gradient.pointer)
    let input = hidden(activations.input(layer, tokens: tokens))
    let dAttended = Rows(scratch.dAttended.pointer, stride: config.querySize)
    let dQueryKeyValue = Rows(scratch.dQueryKeyValue.pointer, stride: weights.queryKeyValue.matrix.paddedOutputs)
    // The lowest trained layer's input needs no gradient: the embedding is not trained.
    let isLowest = layer == adapter.lowestLayer
    var slices = linearBackward(
      layer, 1, dy: gradient, x: kept.attended.pointer, inner: kept.inner[1],
      output: kept.outputs.first ?? kept.middle, dx: dAttended.pointer)
    slices += attendBackward(kept, weights.queryKeyValue, dout: dAttended, into: dQueryKeyValue)
    slices += byRows(2 * Cost.simple * config.querySize) { [self] rows in
      rotate(dQueryKeyValue, weights.queryKeyValue, rows, backward: true)
      if adapter.usesDoRA { rotate(kept.queryKeyValue, weights.queryKeyValue, rows, backward: true) }
      norm(input, weights.inputNorm, rows, into: scratch.normed.pointer)
    }
    slices += linearBackward(
      layer, 0, dy: dQueryKeyValue, x: scratch.normed.pointer, inner: kept.inner[0], output: kept.queryKeyValue,
      dx: isLowest ? nil : scratch.dNormed.pointer)
    if isLowest { return slices }
    return slices + normBackward(input, weights.inputNorm, scratch.dNormed.pointer, adding: gradient)
  }

  private func attendBackward(
    _ kept: LayerActivations, _ stack: StackedLinear, dout: Rows, into gradients: Rows
  ) -> [Slice] {
    let offsets = stack.offset
    let perHead = scratch.perHead.pointer
    // Five products to the forward pass's two.
    let parts = attention.parts(rows: slab.rows, operations: Self.sliceOperations / 5)
    return parts.map { part in
      { [self] in
        attention.backward(
          compute, rows: slab.rows, part: part, queries: kept.queryKeyValue.from(column: offsets(.q)),
          keys: kept.queryKeyValue.from(column: offsets(.k)), values: kept.queryKeyValue.from(column: offsets(.v)),
          out: kept.attended, dout: dout, logSumExp: kept.logSumExp,
          dqueries: gradients.from(column: offsets(.q)), perHead: perHead)
      }
    }
      + byRows(Cost.simple * 2 * config.querySize) { [self] rows in
        attention.sumHeadGroups(
          compute, tokens: tokens, range: rows, perHead: perHead, dkeys: gradients.from(column: offsets(.k)),
          dvalues: gradients.from(column: offsets(.v)))
      }
  }

  private func normBackward(
    _ x: Rows, _ weight: UnsafePointer<Float>, _ dout: UnsafeMutablePointer<Float>, adding dx: Rows
  ) -> [Slice] {
    byRows(Cost.simple * config.hiddenSize) { [self] rows in
      let first = rows.lowerBound
      compute.rmsNormBackward(
        x.from(row: first).pointer, weight: weight, epsilon: config.rmsNormEpsilon,
        dout: hidden(dout).from(row: first).pointer, rows: rows.count, size: config.hiddenSize,
        adding: dx.from(row: first).pointer)
    }
  }
}
