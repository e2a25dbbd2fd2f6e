import Formats
import Kernels
import Model

extension TrainingPass {
  /// Slices that put the slab's embeddings where layer 0 reads them.
  func embed() -> [Slice] {
    byRows(Cost.simple * config.hiddenSize) { [self] rows in
      let x = activations.input(0, tokens: tokens)
      for row in rows { base.copyEmbedding(slab.tokens[row], to: x + row * config.hiddenSize) }
    }
  }

  /// Slices of a layer, from its input to the next one's.
  /// - Parameter again: on the way back: only what the layer keeps is computed
  func forward(_ layer: Int, again: Bool = false) -> [Slice] {
    let weights = base.weights(layer: layer)
    let kept = activations.layer(layer, tokens: tokens)
    let x = hidden(activations.input(layer, tokens: tokens))
    let next = hidden(activations.input(layer + 1, tokens: tokens))
    let middle = hidden(kept.middle.pointer)
    let normed = scratch.normed.pointer
    let projected = scratch.projected.pointer
    let simple = Cost.simple * config.hiddenSize
    var slices = byRows(simple) { [self] rows in norm(x, weights.inputNorm, rows, into: normed) }

    slices += linear(layer, 0, normed, into: kept.queryKeyValue.pointer, inner: kept.inner[0])
    slices += byRows(Cost.simple * config.querySize) { [self] rows in
      rotate(kept.queryKeyValue, weights.queryKeyValue, rows)
    }
    slices += attend(kept, weights.queryKeyValue)
    slices += linear(layer, 1, kept.attended.pointer, into: projected, inner: kept.inner[1])
    let output = Rows(projected, stride: weights.output.matrix.paddedOutputs)
    slices += byRows(2 * simple) { [self] rows in
      keepOutput(output, rows, in: kept, 0)
      sum(x, output, rows, into: middle)
      norm(middle, weights.postAttentionNorm, rows, into: normed)
    }
    slices += linear(layer, 2, normed, into: kept.gateUp.pointer, inner: kept.inner[2])
    slices += activate(kept, weights.gateUp)
    if again, !adapter.usesDoRA {
      // Of down, only its inner activations are needed.
      return slices + shrink(layer, 3, scratch.activated.pointer, into: kept.inner[3])
    }
    slices += linear(layer, 3, scratch.activated.pointer, into: projected, inner: kept.inner[3])
    let down = Rows(projected, stride: weights.down.matrix.paddedOutputs)
    return slices
      + byRows(simple) { [self] rows in
        keepOutput(down, rows, in: kept, 1)
        sum(middle, down, rows, into: next)
      }
  }

  /// A buffer of [tokens][hidden].
  func hidden(_ values: UnsafeMutablePointer<Float>) -> Rows { Rows(values, stride: config.hiddenSize) }

  func norm(
    _ x: Rows, _ weight: UnsafePointer<Float>, _ rows: Range<Int>, into out: UnsafeMutablePointer<Float>
  ) {
    compute.rmsNorm(
      x.from(row: rows.lowerBound).pointer, weight: weight, epsilon: config.rmsNormEpsilon, rows: rows.count,
      size: config.hiddenSize, into: hidden(out).from(row: rows.lowerBound).pointer)
  }

  /// Turns queries and keys by their positions, or back.
  func rotate(_ queryKeyValue: Rows, _ stack: StackedLinear, _ rows: Range<Int>, backward: Bool = false) {
    for (module, heads) in [(LinearModule.q, config.headCount), (.k, config.keyValueHeadCount)] {
      compute.rotate(
        queryKeyValue.from(row: rows.lowerBound, column: stack.offset(module)), positions: slab.positions[rows],
        heads: heads, headSize: config.headSize, cosine: rope.cosine.pointer, sine: rope.sine.pointer,
        backward: backward)
    }
  }

  private func attend(_ kept: LayerActivations, _ stack: StackedLinear) -> [Slice] {
    attention.parts(rows: slab.rows, operations: Self.sliceOperations / 2).map { part in
      { [self] in
        attention.forward(
          compute, rows: slab.rows, part: part, queries: kept.queryKeyValue.from(column: stack.offset(.q)),
          keys: kept.queryKeyValue.from(column: stack.offset(.k)),
          values: kept.queryKeyValue.from(column: stack.offset(.v)), out: kept.attended,
          logSumExp: kept.logSumExp)
      }
    }
  }

  func activate(_ kept: LayerActivations, _ stack: StackedLinear) -> [Slice] {
    let size = config.intermediateSize
    return byRows(Cost.exponential * size) { [self] rows in
      let gateUp = kept.gateUp.from(row: rows.lowerBound)
      compute.swiglu(
        gate: gateUp.pointer + stack.offset(.gate), up: gateUp.pointer + stack.offset(.up),
        ld: gateUp.stride, rows: rows.count, size: size, into: scratch.activated.pointer + rows.lowerBound * size)
    }
  }

  private func sum(_ x: Rows, _ y: Rows, _ rows: Range<Int>, into out: Rows) {
    let first = rows.lowerBound
    compute.sum(
      x.from(row: first), y.from(row: first), rows: rows.count, columns: config.hiddenSize, into: out.from(row: first))
  }

  private func keepOutput(_ y: Rows, _ rows: Range<Int>, in kept: LayerActivations, _ index: Int) {
    guard adapter.usesDoRA else { return }
    compute.copy(
      y.from(row: rows.lowerBound), rows: rows.count, columns: config.hiddenSize,
      into: kept.outputs[index].from(row: rows.lowerBound))
  }
}
