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
    let gradient = scratch.gradient.pointer
    let (activated, dActivated) = (scratch.activated.pointer, scratch.dActivated.pointer)
    let dGateUp = Rows(scratch.dGateUp.pointer, stride: weights.gateUp.matrix.paddedOutputs)
    let offsets = weights.gateUp.offset
    var slices: [Slice] = []
    // Computed again, the layer has left its activations where they are read.
    if !again { slices.append { [self] in activate(kept, weights.gateUp) } }
    slices += linearBackward(
      layer, 3, dy: Rows(gradient, stride: config.hiddenSize), x: activated, inner: kept.inner[3],
      output: kept.outputs.last ?? kept.middle, dx: dActivated)
    slices.append { [self] in
      compute.swigluBackward(
        gate: kept.gateUp.pointer + offsets(.gate), up: kept.gateUp.pointer + offsets(.up),
        dout: dActivated, ld: dGateUp.stride, rows: tokens, size: config.intermediateSize,
        dgate: dGateUp.pointer + offsets(.gate), dup: dGateUp.pointer + offsets(.up))
      norm(kept.middle.pointer, weights.postAttentionNorm, into: scratch.normed.pointer)
    }
    slices += linearBackward(
      layer, 2, dy: dGateUp, x: scratch.normed.pointer, inner: kept.inner[2], output: kept.gateUp,
      dx: scratch.dNormed.pointer)
    slices.append { [self] in
      normBackward(kept.middle.pointer, weights.postAttentionNorm, scratch.dNormed.pointer, adding: gradient)
    }
    return slices
  }

  private func attentionBackward(_ layer: Int) -> [Slice] {
    let weights = base.weights(layer: layer)
    let kept = activations.layer(layer, tokens: tokens)
    let gradient = scratch.gradient.pointer
    let dAttended = Rows(scratch.dAttended.pointer, stride: config.querySize)
    let dQueryKeyValue = Rows(scratch.dQueryKeyValue.pointer, stride: weights.queryKeyValue.matrix.paddedOutputs)
    // The lowest trained layer's input needs no gradient: the embedding is not trained.
    let isLowest = layer == adapter.lowestLayer
    var slices = linearBackward(
      layer, 1, dy: Rows(gradient, stride: config.hiddenSize), x: kept.attended.pointer, inner: kept.inner[1],
      output: kept.outputs.first ?? kept.middle, dx: dAttended.pointer)
    slices += attendBackward(kept, weights.queryKeyValue, dout: dAttended, into: dQueryKeyValue)
    slices.append { [self] in
      rotate(dQueryKeyValue, weights.queryKeyValue, backward: true)
      if adapter.usesDoRA { rotate(kept.queryKeyValue, weights.queryKeyValue, backward: true) }
      norm(activations.input(layer, tokens: tokens), weights.inputNorm, into: scratch.normed.pointer)
    }
    slices += linearBackward(
      layer, 0, dy: dQueryKeyValue, x: scratch.normed.pointer, inner: kept.inner[0], output: kept.queryKeyValue,
      dx: isLowest ? nil : scratch.dNormed.pointer)
    if !isLowest {
      slices.append { [self] in
        normBackward(
          activations.input(layer, tokens: tokens), weights.inputNorm, scratch.dNormed.pointer, adding: gradient)
      }
    }
    return slices
  }

  private func attendBackward(
    _ kept: LayerActivations, _ stack: StackedLinear, dout: Rows, into gradients: Rows
  ) -> [Slice] {
    let offsets = stack.offset
    let perHead = scratch.perHead.pointer
    var slices: [Slice] = []
    for units in attention.unitRanges(rows: slab.rows, operations: Self.sliceOperations / 3) {
      slices.append { [self] in
        attention.backward(
          compute, rows: slab.rows, units: units, queries: kept.queryKeyValue.from(column: offsets(.q)),
          keys: kept.queryKeyValue.from(column: offsets(.k)),
          values: kept.queryKeyValue.from(column: offsets(.v)), out: kept.attended, dout: dout,
          logSumExp: kept.logSumExp, dqueries: gradients.from(column: offsets(.q)), perHead: perHead)
      }
    }
    slices.append { [self] in
      attention.sumGroups(
        compute, tokens: tokens, perHead: perHead, dkeys: gradients.from(column: offsets(.k)),
        dvalues: gradients.from(column: offsets(.v)))
    }
    return slices
  }

  private func normBackward(
    _ x: UnsafePointer<Float>, _ weight: UnsafePointer<Float>, _ dout: UnsafePointer<Float>,
    adding dx: UnsafeMutablePointer<Float>
  ) {
    compute.rmsNormBackward(
      x, weight: weight, epsilon: config.rmsNormEpsilon, dout: dout, rows: tokens, size: config.hiddenSize,
      adding: dx)
  }
}
