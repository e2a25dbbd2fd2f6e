import CKernels

/// Memory that linear products need besides their inputs and outputs. One product at a time may use it.
public struct LinearScratch: Sendable {
  let quantized: QuantizedRows
  /// Floats of updates' x · Aᵀ that are there at a time, if no update alone has more.
  private let maximumShrunk: Int
  private(set) var shrunk = AlignedBuffer<Float>(count: 0)
  private var unscaled = AlignedBuffer<Float>(count: 0)

  /// - Parameters:
  ///   - rows: maximum number of rows
  ///   - columns: maximum of the matrices
  ///   - ranks: how many ranks of updates there is room for in each row. Updates that have more together take turns, so
  ///     that the memory does not grow with their number
  public init(rows: Int, columns: Int, ranks: Int = 4096) {
    quantized = QuantizedRows(rows: rows, columns: columns)
    maximumShrunk = rows * ranks
  }

  /// Divides updates into neighbours that there is room for at a time. There is at least one part.
  fileprivate func parts(of updates: [LowRankUpdate]) -> [Range<Int>] {
    var parts: [Range<Int>] = []
    var (start, count) = (0, 0)
    for (index, update) in updates.enumerated() {
      if count > 0, count + update.shrunkCount > maximumShrunk {
        parts.append(start..<index)
        (start, count) = (index, 0)
      }
      count += update.shrunkCount
    }
    parts.append(start..<updates.count)
    return parts
  }

  /// Memory for the given numbers of floats. It grows if necessary, and never shrinks.
  fileprivate mutating func reserve(shrunk shrunkCount: Int, unscaled unscaledCount: Int) -> (
    shrunk: UnsafeMutablePointer<Float>, unscaled: UnsafeMutablePointer<Float>
  ) {
    if shrunk.count < shrunkCount { shrunk = AlignedBuffer(count: shrunkCount) }
    if unscaled.count < unscaledCount { unscaled = AlignedBuffer(count: unscaledCount) }
    return (shrunk.pointer, unscaled.pointer)
  }
}

extension LowRankUpdate {
  /// Floats of x · Aᵀ.
  fileprivate var shrunkCount: Int { rows.count * paddedRank }
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
  /// second computes ranges of outputs, each from the weights' codes to the epilogue while its values are in the cache. If
  /// there is no room for x · Aᵀ of all updates at a time, further tasks compute it of some and add these, and the last one
  /// applies the epilogue. Updates that share rows and outputs are added in the order of the array, so the bits are the same.
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
    let parts = scratch.parts(of: updates)
    let shrunkCount = parts.reduce(0) { max($0, updates[$1].reduce(0) { $0 + $1.shrunkCount }) }
    let hasFactors = updates.contains { $0.rowFactors != nil }
    let (shrunk, unscaled) = scratch.reserve(shrunk: shrunkCount, unscaled: hasFactors ? rows * ldy : 0)
    let product = BaseProduct(self, w, x, rows: rows, quantized: scratch.quantized, into: y)
    let functions = kernels.forward
    let prefetches = updates[parts[0]].map(\.prefetch)
    updates.withUnsafeBufferPointer { updates in
      for (index, part) in parts.enumerated() {
        let (isFirst, isLast) = (index == 0, index == parts.count - 1)
        let present = UnsafeBufferPointer(rebasing: updates[part])
        prepare(product, x, quantizes: isFirst, updates: present, shrunk: shrunk)
        func compute(_ groups: Range<Int>) {
          if isFirst {
            prefetches.withUnsafeBufferPointer { product.compute(groups, prefetches: $0) }
            if hasFactors { copyUnscaled(updates, groups: groups, y: y, into: unscaled, ldy: ldy) }
          }
          var u = UnsafePointer(shrunk)
          for update in present {
            if update.groups.overlaps(groups) {
              expand(update, groups: groups, functions: functions, shrunk: u, y: y, unscaled: unscaled, ldy: ldy)
            }
            u += update.shrunkCount
          }
          guard isLast, let bias else { return }
          let first = groups.lowerBound * tileLanes
          for row in 0..<rows { functions.add(y + row * ldy + first, bias + first, groups.count * tileLanes) }
        }
        // A gated epilogue reads gate and up: a range of gate's groups is computed with the same range of up's.
        let upGroup = if case .gated(let up, _, _, _) = epilogue { up / tileLanes } else { 0 }
        pool.run(count: upGroup > 0 ? upGroup : w.groups, grain: minimumGroups(rows: rows, columns: w.columns)) {
          groups in
          compute(groups)
          if upGroup > 0 { compute(groups.lowerBound + upGroup..<groups.upperBound + upGroup) }
          if isLast { epilogue.apply(groups, functions: functions, rows: rows, y: y, ldy: ldy) }
        }
      }
    }
  }

  /// The fewest groups of a matrix that are worth handing to a thread: about 20,000 multiplications.
  func minimumGroups(rows: Int, columns: Int) -> Int { max(1, 20_000 / (rows * columns * tileLanes)) }

  /// Quantises the rows, if the product is an integer product, and computes x · Aᵀ of every update.
  /// - Parameters:
  ///   - quantizes: whether the rows are not quantised yet
  ///   - shrunk: [rows][paddedRank] for each update, one after another, written
  private func prepare(
    _ product: BaseProduct, _ x: UnsafePointer<Float>, quantizes: Bool, updates: UnsafeBufferPointer<LowRankUpdate>,
    shrunk: UnsafeMutablePointer<Float>
  ) {
    let quantization = product.quantization
    let quantizationParts = quantizes ? quantization.parts : 0
    if updates.isEmpty { return pool.run(parts: quantizationParts) { quantization.quantize(part: $0) } }
    let functions = kernels.forward
    // Every update is divided into as many parts as the one with the most rows needs. Surplus parts do nothing.
    let rowsPerPart = 32
    let partsPerUpdate = updates.reduce(1) { max($0, ($1.rows.count + rowsPerPart - 1) / rowsPerPart) }
    pool.run(parts: quantizationParts + updates.count * partsPerUpdate) { part in
      if part < quantizationParts { return quantization.quantize(part: part) }
      let (index, updatePart) = (part - quantizationParts).quotientAndRemainder(dividingBy: partsPerUpdate)
      let update = updates[index]
      let first = updatePart * rowsPerPart
      let count = min(rowsPerPart, update.rows.count - first)
      guard count > 0 else { return }
      let start = updates[..<index].reduce(0) { $0 + $1.shrunkCount }
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
