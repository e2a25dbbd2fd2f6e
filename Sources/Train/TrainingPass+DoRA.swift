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
    let base = norms.squares(layer, stack) { compute.squaredRowNorms(matrix) }
    // W·Aᵀ, [rank][outputs], as a product of A's rows: ‖W + s·B·A‖² = ‖W‖² + 2s·(W·Aᵀ)·B + s²·B·(A·Aᵀ)·Bᵀ by rows.
    let a = adapter.parameter(lora.a)
    let cross = scratch.scaled.pointer
    compute.round(a, rows: lora.rankSum, for: matrix, into: scratch.rounded)
    compute.product(
      matrix, groups: 0..<matrix.groups, a, rows: lora.rankSum, rounded: scratch.rounded, into: cross)
    for module in lora.modules {
      let (rank, s) = (module.rank, Double(module.scale))
      let gram = gramMatrix(module)
      let b = adapter.parameter(module.b)
      let offset = weights.outputOffset(module.linear)
      let factor = adapter.factors[module.index] ?? AlignedBuffer(count: module.outputs)
      for row in 0..<module.outputs {
        var square = Double(base[offset + row])
        for i in 0..<rank {
          let bi = Double(b[row * rank + i])
          if bi == 0 { continue }
          square += 2 * s * bi * Double(cross[(module.column + i) * matrix.paddedOutputs + offset + row])
          for j in 0..<rank { square += s * s * bi * gram[i * rank + j] * Double(b[row * rank + j]) }
        }
        let norm = Float(max(square, 0).squareRoot())
        if let magnitude = module.magnitude {
          if settingMagnitudes { adapter.parameter(magnitude)[row] = norm }
          factor[row] = norm > 0 ? adapter.parameter(magnitude)[row] / norm : 0
        }
      }
      adapter.factors[module.index] = factor
    }
  }

  /// A·Aᵀ, [rank][rank].
  private func gramMatrix(_ module: TrainableAdapter.Module) -> [Double] {
    let a = adapter.parameter(module.a)
    var gram = [Double](repeating: 0, count: module.rank * module.rank)
    for i in 0..<module.rank {
      for j in 0...i {
        var sum = 0.0
        for k in 0..<module.inputs { sum += Double(a[i * module.inputs + k]) * Double(a[j * module.inputs + k]) }
        gram[i * module.rank + j] = sum
        gram[j * module.rank + i] = sum
      }
    }
    return gram
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
      let offset = weights.outputOffset(module.linear)
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
  private var known: [Int: [Float]] = [:]

  func squares(_ layer: Int, _ stack: Int, _ compute: () -> [Float]) -> [Float] {
    let key = layer * StackedLinear.stacks.count + stack
    if let known = known[key] { return known }
    let fresh = compute()
    known[key] = fresh
    return fresh
  }
}
