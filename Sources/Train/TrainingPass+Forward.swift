import Kernels
import Model

extension TrainingPass {
  /// Slices that put the slab's embeddings where layer 0 reads them.
  func embed() -> [Slice] {
    [
      { [self] in
        let x = activations.input(0, tokens: tokens)
        for (row, token) in slab.tokens.enumerated() { base.copyEmbedding(token, to: x + row * config.hiddenSize) }
      }
    ]
  }

  /// Slices of a layer, from its input to the next one's.
  /// - Parameter again: on the way back: only what the layer keeps is computed
  func forward(_ layer: Int, again: Bool = false) -> [Slice] {
    let weights = base.weights(layer: layer)
    let kept = activations.layer(layer, tokens: tokens)
    let x = activations.input(layer, tokens: tokens)
    let next = activations.input(layer + 1, tokens: tokens)
    let normed = scratch.normed.pointer
    let projected = scratch.projected.pointer
    var slices: [Slice] = [{ [self] in norm(x, weights.inputNorm, into: normed) }]

    slices += linear(layer, 0, normed, into: kept.queryKeyValue.pointer, inner: kept.inner[0])
    slices.append { [self] in rotate(kept.queryKeyValue, weights.queryKeyValue) }
    slices += attend(kept, weights.queryKeyValue)
    slices += linear(layer, 1, kept.attended.pointer, into: projected, inner: kept.inner[1])
    slices.append { [self] in
      keepOutput(projected, stride: weights.output.matrix.paddedOutputs, in: kept, 0)
      addResidual(x, projected, stride: weights.output.matrix.paddedOutputs, into: kept.middle.pointer)
      norm(kept.middle.pointer, weights.postAttentionNorm, into: normed)
    }
    slices += linear(layer, 2, normed, into: kept.gateUp.pointer, inner: kept.inner[2])
    slices.append { [self] in activate(kept, weights.gateUp) }
    if again, !adapter.usesDoRA {
      // Of down, only its inner activations are needed.
      slices.append { [self] in shrink(layer, 3, scratch.activated.pointer, into: kept.inner[3]) }
      return slices
    }
    slices += linear(layer, 3, scratch.activated.pointer, into: projected, inner: kept.inner[3])
    slices.append { [self] in
      keepOutput(projected, stride: weights.down.matrix.paddedOutputs, in: kept, 1)
      addResidual(kept.middle.pointer, projected, stride: weights.down.matrix.paddedOutputs, into: next)
    }
    return slices
  }

  func norm(_ x: UnsafePointer<Float>, _ weight: UnsafePointer<Float>, into out: UnsafeMutablePointer<Float>) {
    compute.rmsNorm(
      x, weight: weight, epsilon: config.rmsNormEpsilon, rows: tokens, size: config.hiddenSize, into: out)
  }

  /// Turns queries and keys by their positions, or back.
  func rotate(_ queryKeyValue: Rows, _ stack: StackedLinear, backward: Bool = false) {
    for (module, heads) in [(LinearModule.q, config.headCount), (.k, config.keyValueHeadCount)] {
      compute.rotate(
        queryKeyValue.from(column: stack.offset(module)), positions: slab.positions, heads: heads,
        headSize: config.headSize, cosine: rope.cosine.pointer, sine: rope.sine.pointer, backward: backward)
    }
  }

  private func attend(_ kept: LayerActivations, _ stack: StackedLinear) -> [Slice] {
    attention.unitRanges(rows: slab.rows, operations: Self.sliceOperations).map { units in
      { [self] in
        attention.forward(
          compute, rows: slab.rows, units: units, queries: kept.queryKeyValue.from(column: stack.offset(.q)),
          keys: kept.queryKeyValue.from(column: stack.offset(.k)),
          values: kept.queryKeyValue.from(column: stack.offset(.v)), out: kept.attended,
          logSumExp: kept.logSumExp)
      }
    }
  }

  func activate(_ kept: LayerActivations, _ stack: StackedLinear) {
    compute.swiglu(
      gate: kept.gateUp.pointer + stack.offset(.gate), up: kept.gateUp.pointer + stack.offset(.up),
      ld: kept.gateUp.stride, rows: tokens, size: config.intermediateSize, into: scratch.activated.pointer)
  }

  private func addResidual(
    _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, stride: Int, into out: UnsafeMutablePointer<Float>
  ) {
    out.update(from: x, count: tokens * config.hiddenSize)
    compute.add(
      Rows(y, stride: stride), to: Rows(out, stride: config.hiddenSize), rows: tokens, columns: config.hiddenSize)
  }

  private func keepOutput(_ y: UnsafePointer<Float>, stride: Int, in kept: LayerActivations, _ index: Int) {
    guard adapter.usesDoRA else { return }
    let out = kept.outputs[index]
    for token in 0..<tokens {
      (out.pointer + token * out.stride).update(from: y + token * stride, count: config.hiddenSize)
    }
  }
}
