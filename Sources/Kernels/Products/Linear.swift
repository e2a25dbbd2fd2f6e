import CKernels

/// Memory that linear products need besides their inputs and outputs. One product at a time may use it.
public struct LinearScratch: Sendable {
  let quantized: QuantizedRows
  private var shrunk = AlignedBuffer<Float>(count: 0)
  private var unscaled = AlignedBuffer<Float>(count: 0)

  /// - Parameters:
  ///   - rows: maximum number of rows
  ///   - columns: maximum of the matrices
  public init(rows: Int, columns: Int) { quantized = QuantizedRows(rows: rows, columns: columns) }

  /// Memory for the given numbers of floats. It grows if necessary, and never shrinks.
  fileprivate mutating func reserve(shrunk shrunkCount: Int, unscaled unscaledCount: Int) -> (
    shrunk: UnsafeMutablePointer<Float>, unscaled: UnsafeMutablePointer<Float>
  ) {
    if shrunk.count < shrunkCount { shrunk = AlignedBuffer(count: shrunkCount) }
    if unscaled.count < unscaledCount { unscaled = AlignedBuffer(count: unscaledCount) }
    return (shrunk.pointer, unscaled.pointer)
  }
}

extension Compute {
  /// y = x · Wᵀ in the compute mode's arithmetic.
  /// - Parameters:
  ///   - x: [rows][columns]
  ///   - y: [rows][paddedOutputs], written
  public func product(
    _ w: Matrix, _ x: UnsafePointer<Float>, rows: Int, scratch: inout LinearScratch,
    into y: UnsafeMutablePointer<Float>
  ) {
    linear(w, x, rows: rows, updates: [], scratch: &scratch, into: y)
  }

  /// y = x · Wᵀ + Σ scale · (x · Aᵀ) · Bᵀ over adapters' updates, each on its own rows, plus the bias; then the epilogue.
  ///
  /// The pool runs two tasks. The first computes what depends on x alone: it quantises the rows and computes x · Aᵀ. The
  /// second computes ranges of outputs, each from the weights' codes to the epilogue while its values are in the cache.
  /// Updates that share rows and outputs are added in the order of the array.
  /// - Parameters:
  ///   - x: [rows][columns]
  ///   - bias: [paddedOutputs]; `nil` adds nothing
  ///   - updates: the caller keeps their factors alive during the call
  ///   - y: [rows][paddedOutputs], written
  public func linear(
    _ w: Matrix, bias: UnsafePointer<Float>? = nil, _ x: UnsafePointer<Float>, rows: Int, updates: [LowRankUpdate],
    epilogue: LinearEpilogue = .none, scratch: inout LinearScratch, into y: UnsafeMutablePointer<Float>
  ) {
    guard rows > 0 else { return }
    let ldy = w.paddedOutputs
    let (shrunkCount, hasFactors) = updates.reduce(into: (0, false)) { sum, update in
      sum.0 += update.rows.count * update.paddedRank
      sum.1 = sum.1 || update.rowFactors != nil
    }
    let (shrunk, unscaled) = scratch.reserve(shrunk: shrunkCount, unscaled: hasFactors ? rows * ldy : 0)
    let product = BaseProduct(self, w, x, rows: rows, quantized: scratch.quantized, into: y)
    let functions = kernels.forward
    let prefetches = updates.map(\.prefetch)
    updates.withUnsafeBufferPointer { updates in
      prepare(product, x, updates: updates, shrunk: shrunk)
      func compute(_ groups: Range<Int>) {
        prefetches.withUnsafeBufferPointer { product.compute(groups, prefetches: $0) }
        if hasFactors { copyUnscaled(updates, groups: groups, y: y, into: unscaled, ldy: ldy) }
        var u = UnsafePointer(shrunk)
        for update in updates {
          if update.groups.overlaps(groups) {
            expand(update, groups: groups, functions: functions, shrunk: u, y: y, unscaled: unscaled, ldy: ldy)
          }
          u += update.rows.count * update.paddedRank
        }
        guard let bias else { return }
        let first = groups.lowerBound * tileLanes
        for row in 0..<rows { functions.add(y + row * ldy + first, bias + first, groups.count * tileLanes) }
      }
      // A gated epilogue reads gate and up: a range of gate's groups is computed with the same range of up's.
      let upGroup = if case .gated(let up, _, _, _) = epilogue { up / tileLanes } else { 0 }
      pool.run(count: upGroup > 0 ? upGroup : w.groups, grain: minimumGroups(rows: rows, columns: w.columns)) {
        groups in
        compute(groups)
        if upGroup > 0 { compute(groups.lowerBound + upGroup..<groups.upperBound + upGroup) }
        epilogue.apply(groups, functions: functions, rows: rows, y: y, ldy: ldy)
      }
    }
  }

  /// The fewest groups of a matrix that are worth handing to a thread: about 20,000 multiplications.
  func minimumGroups(rows: Int, columns: Int) -> Int { max(1, 20_000 / (rows * columns * tileLanes)) }

  /// Quantises the rows, if the product is an integer product, and computes x · Aᵀ of every update.
  /// - Parameter shrunk: [rows][paddedRank] for each update, one after another, written
  private func prepare(
    _ product: BaseProduct, _ x: UnsafePointer<Float>, updates: UnsafeBufferPointer<LowRankUpdate>,
    shrunk: UnsafeMutablePointer<Float>
  ) {
    let quantization = product.quantization
    if updates.isEmpty { return pool.run(parts: quantization.parts) { quantization.quantize(part: $0) } }
    let functions = kernels.forward
    // Every update is divided into as many parts as the one with the most rows needs. Surplus parts do nothing.
    let rowsPerPart = 32
    let partsPerUpdate = updates.reduce(1) { max($0, ($1.rows.count + rowsPerPart - 1) / rowsPerPart) }
    pool.run(parts: quantization.parts + updates.count * partsPerUpdate) { part in
      if part < quantization.parts { return quantization.quantize(part: part) }
      let (index, updatePart) = (part - quantization.parts).quotientAndRemainder(dividingBy: partsPerUpdate)
      let update = updates[index]
      let first = updatePart * rowsPerPart
      let count = min(rowsPerPart, update.rows.count - first)
      guard count > 0 else { return }
      let start = updates[..<index].reduce(0) { $0 + $1.rows.count * $1.paddedRank }
      withUnsafePointer(to: update.factors) { factors in
        functions.lora_shrink(
          factors, x + (update.rows.lowerBound + first) * product.columns, product.columns, count,
          shrunk + start + first * update.paddedRank, update.paddedRank)
      }
    }
  }

  /// Copies the base's outputs that DoRA scales, before anything is added to them.
  private func copyUnscaled(
    _ updates: UnsafeBufferPointer<LowRankUpdate>, groups: Range<Int>, y: UnsafePointer<Float>,
    into unscaled: UnsafeMutablePointer<Float>, ldy: Int
  ) {
    for update in updates where update.rowFactors != nil {
      let groups = groups.clamped(to: update.groups)
      for row in update.rows {
        let offset = row * ldy + groups.lowerBound * tileLanes
        (unscaled + offset).update(from: y + offset, count: groups.count * tileLanes)
      }
    }
  }

  /// Adds an update to some of the matrix's groups.
  /// - Parameters:
  ///   - shrunk: x · Aᵀ of the update, [rows][paddedRank]
  ///   - unscaled: [rows][ldy], the base's outputs where the update has row factors
  private func expand(
    _ update: LowRankUpdate, groups: Range<Int>, functions: graft_forward_kernels,
    shrunk: UnsafePointer<Float>,
    y: UnsafeMutablePointer<Float>, unscaled: UnsafePointer<Float>, ldy: Int
  ) {
    let (first, rows, offset) = (update.groups.lowerBound, update.rows, update.offset)
    let groups = groups.clamped(to: update.groups)
    withUnsafePointer(to: update.factors) { factors in
      functions.lora_expand(
        factors, shrunk, update.paddedRank, rows.count, update.scale, update.rowFactors,
        y + rows.lowerBound * ldy + offset, ldy, groups.lowerBound - first, groups.upperBound - first)
    }
    if let bias = update.bias {
      let (first, count) = (groups.lowerBound * tileLanes, groups.count * tileLanes)
      for row in rows {
        let (out, added) = (y + row * ldy + first, bias + first - offset)
        for i in 0..<count { out[i] += update.weight * added[i] }
      }
    }
    guard let minusOne = update.rowFactorsMinusOne else { return }
    for row in rows {
      let start = row * ldy + groups.lowerBound * tileLanes
      functions.add_scaled(
        y + start, unscaled + start, minusOne + groups.lowerBound * tileLanes - offset, update.weight,
        groups.count * tileLanes)
    }
  }
}
