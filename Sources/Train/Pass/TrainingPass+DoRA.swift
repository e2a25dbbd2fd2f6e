import Formats
import Kernels
import Model

/// DoRA (Liu et al., 2024) as in PEFT: y = m / ‖W + s·B·A‖ · (W·x + s·B·A·D(x)). The norms are those of rows, and no
/// gradient flows through them. One difference: with dropout, PEFT also drops the base's input here, and Graft only
/// LoRA's.
extension TrainingModel {
  /// Computes the factors m / ‖W + s·B·A‖ from the parameters.
  /// - Parameters:
  ///   - settingMagnitudes: sets m to the norm, as for a new adapter
  ///   - interruptible: false if this is a part of an update
  func refreshFactors(
    settingMagnitudes: Bool, interruptible: Bool, _ slices: any TrainingSlices
  ) throws(TrainingInterruption) {
    guard adapter.usesDoRA else { return }
    for (layer, stacks) in adapter.layers.enumerated() {
      for stack in ProjectionStack.allCases {
        guard let lora = stacks[stack] else { continue }
        try slices.slice(interruptible: interruptible) { refresh(lora, layer, stack, settingMagnitudes) }
      }
    }
  }

  private func refresh(
    _ lora: TrainableAdapter.Stack, _ layer: Int, _ stack: ProjectionStack, _ settingMagnitudes: Bool
  ) {
    let weights = base.layers[layer][stack]
    let matrix = weights.matrix
    let squares = norms.squares(layer, stack) { compute.squaredRowNorms(matrix, groups: 0..<matrix.groups) }
    // A·Wᵀ, [rank][outputs], as a product of A's rows.
    let a = adapter.parameter(lora.a)
    let (scratch, quantized) = (activations.scratch, activations.scratch.quantized)
    let products = scratch.scaled.rows(lora.rankSum, of: matrix.paddedOutputs)
    compute.quantizeRows(a, rows: lora.rankSum, for: matrix, into: quantized)
    compute.product(
      matrix, groups: 0..<matrix.groups, a, rows: lora.rankSum, quantized: quantized, into: products.pointer)
    for adapted in lora.projections {
      guard let magnitude = adapted.magnitude else { continue }
      let offset = weights.offset(adapted.projection)
      let rowNorms = DoRA.norms(
        squares: squares[offset..<offset + adapted.outputs],
        products: products.from(row: adapted.column, column: offset), a: adapter.parameter(adapted.a),
        b: adapter.parameter(adapted.b), rank: adapted.rank, columns: adapted.inputs, scale: adapted.scale)
      let m = adapter.parameter(magnitude)
      let factor = adapter.factors[adapted.index] ?? AlignedBuffer(count: adapted.outputs)
      for (row, exact) in rowNorms.enumerated() {
        let norm = Float(exact)
        if settingMagnitudes { m[row] = norm }
        factor[row] = norm > 0 ? m[row] / norm : 0
      }
      adapter.factors[adapted.index] = factor
    }
  }
}

extension TrainingPass {
  /// Adds the gradients of the magnitudes, Σ dy·y / m, over some tokens, and writes dy multiplied by the factors.
  func scaleByDoRA(
    _ lora: TrainableAdapter.Stack, _ weights: StackedWeights, _ outputs: Int, _ rows: Range<Int>, dy: Rows,
    output: Rows, into out: Rows
  ) {
    let (dy, output) = (dy.from(row: rows.lowerBound), output.from(row: rows.lowerBound))
    let out = out.from(row: rows.lowerBound)
    compute.copy(dy, rows: rows.count, columns: outputs, into: out)
    for adapted in lora.projections {
      guard let magnitude = adapted.magnitude, let factor = adapter.factors[adapted.index] else { continue }
      let offset = weights.offset(adapted.projection)
      let m = adapter.parameter(magnitude)
      withUnsafeTemporaryAllocation(of: Float.self, capacity: adapted.outputs) { sums in
        sums.initialize(repeating: 0)
        guard let start = sums.baseAddress else { return }
        compute.addColumnProducts(
          dy.from(column: offset), output.from(column: offset), rows: rows.count, columns: adapted.outputs, to: start)
        if let bias = weights.bias {
          // The magnitudes do not scale the bias.
          for row in 0..<rows.count {
            let dy = dy.from(row: row, column: offset).pointer
            for column in 0..<adapted.outputs { start[column] -= dy[column] * bias[offset + column] }
          }
        }
        for row in 0..<adapted.outputs where m[row] != 0 { adapter.gradient(magnitude)[row] += sums[row] / m[row] }
      }
      compute.scaleColumns(out.from(column: offset), by: factor.pointer, rows: rows.count, columns: adapted.outputs)
    }
  }
}

/// The squared norms of the base's rows, ‖W‖², which never change: computed when they are first needed.
final class BaseRowNorms {
  private struct Key: Hashable {
    let layer: Int
    let stack: ProjectionStack
  }

  private var known: [Key: [Double]] = [:]

  /// [padded outputs]
  func squares(_ layer: Int, _ stack: ProjectionStack, _ compute: () -> [Double]) -> [Double] {
    let key = Key(layer: layer, stack: stack)
    if let known = known[key] { return known }
    let fresh = compute()
    known[key] = fresh
    return fresh
  }
}
