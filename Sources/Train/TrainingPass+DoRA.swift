import Kernels
import Model

/// DoRA (Liu et al., 2024) as PEFT has it: y = m / ‖W + s·B·A‖ · (W·x + s·B·A·D(x)), norms by rows and outside the
/// gradient. (PEFT drops the base's input here as well where there is dropout; Graft drops LoRA's alone.)
extension TrainingPass {
  /// Slices that bring the factors m / ‖W + s·B·A‖ up to date with the parameters.
  /// - Parameters:
  ///   - norms: ‖W‖² of each stack's rows by layer and stack, computed where missing
  ///   - settingMagnitudes: m becomes the norm, as for a new adapter
  func refreshFactors(norms: DoRANorms, settingMagnitudes: Bool) -> [Slice] {
    guard adapter.usesDoRA else { return [] }
    return adapter.stacks.indices.flatMap { layer in
      StackedLinear.stacks.indices.compactMap { stack in
        adapter.stacks[layer][stack].map { lora in
          { [self] in refresh(lora, layer, stack, norms, settingMagnitudes) }
        }
      }
    }
  }

  private func refresh(
    _ lora: TrainableAdapter.Stack, _ layer: Int, _ stack: Int, _ norms: DoRANorms, _ settingMagnitudes: Bool
  ) {
    let weights = stackWeights(layer, stack)
    let matrix = weights.matrix
    let squares = norms.squares(layer, stack) { compute.squaredRowNorms(matrix, groups: 0..<matrix.groups) }
    // W·Aᵀ, [rank][outputs], as a product of A's rows.
    let a = adapter.parameter(lora.a)
    let cross = scratch.scaled.pointer
    compute.quantizeRows(a, rows: lora.rankSum, for: matrix, into: scratch.rounded)
    compute.product(
      matrix, groups: 0..<matrix.groups, a, rows: lora.rankSum, quantized: scratch.rounded, into: cross)
    for module in lora.modules {
      guard let magnitude = module.magnitude else { continue }
      let offset = weights.offset(module.linear)
      let rowNorms = DoRA.norms(
        squares: squares[offset..<offset + module.outputs],
        products: Rows(cross, stride: matrix.paddedOutputs).from(row: module.column, column: offset),
        a: adapter.parameter(module.a), b: adapter.parameter(module.b), rank: module.rank, columns: module.inputs,
        scale: module.scale)
      let m = adapter.parameter(magnitude)
      let factor = adapter.factors[module.index] ?? AlignedBuffer(count: module.outputs)
      for (row, exact) in rowNorms.enumerated() {
        let norm = Float(exact)
        if settingMagnitudes { m[row] = norm }
        factor[row] = norm > 0 ? m[row] / norm : 0
      }
      adapter.factors[module.index] = factor
    }
  }

  /// Adds the magnitudes' gradients, Σ dy·y / m, of some tokens, and writes dy times the factors.
  func scaleByDoRA(
    _ lora: TrainableAdapter.Stack, _ weights: StackedLinear, _ outputs: Int, _ rows: Range<Int>, dy: Rows,
    output: Rows, into out: Rows
  ) {
    let (dy, output) = (dy.from(row: rows.lowerBound), output.from(row: rows.lowerBound))
    let out = out.from(row: rows.lowerBound)
    compute.copy(dy, rows: rows.count, columns: outputs, into: out)
    for module in lora.modules {
      guard let magnitude = module.magnitude, let factor = adapter.factors[module.index] else { continue }
      let offset = weights.offset(module.linear)
      let m = adapter.parameter(magnitude)
      withUnsafeTemporaryAllocation(of: Float.self, capacity: module.outputs) { sums in
        sums.initialize(repeating: 0)
        guard let start = sums.baseAddress else { return }
        compute.addColumnProducts(
          dy.from(column: offset), output.from(column: offset), rows: rows.count, columns: module.outputs, to: start)
        for row in 0..<module.outputs where m[row] != 0 { adapter.gradient(magnitude)[row] += sums[row] / m[row] }
      }
      compute.scaleColumns(out.from(column: offset), by: factor.pointer, rows: rows.count, columns: module.outputs)
    }
  }
}

/// The squared norms of the base's rows, which never change.
final class DoRANorms {
  private var known: [Int: [Double]] = [:]

  func squares(_ layer: Int, _ stack: Int, _ compute: () -> [Double]) -> [Double] {
    let key = layer * StackedLinear.stacks.count + stack
    if let known = known[key] { return known }
    let fresh = compute()
    known[key] = fresh
    return fresh
  }
}
