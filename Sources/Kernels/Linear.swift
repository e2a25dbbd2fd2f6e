import CKernels

/// What an adapter adds to some rows of a product.
public struct LinearTerm: Sendable {
  let module: LowRank
  let rows: Range<Int>
  let offset: Int
  let scale: Float
  let weight: Float

  /// - Parameters:
  ///   - rows: of the batch
  ///   - offset: where the module's outputs begin among the matrix's; a multiple of 16
  ///   - scale: the request's weight, times α/r (or α/√r)
  ///   - weight: the request's weight alone, which DoRA's change of the base's share takes
  public init(_ module: LowRank, rows: Range<Int>, offset: Int, scale: Float, weight: Float) {
    self.module = module
    self.rows = rows
    self.offset = offset
    self.scale = scale
    self.weight = weight
  }

  /// The module's among the matrix's groups of outputs.
  var groups: Range<Int> {
    let first = offset / tileLanes
    return first..<first + TileLayout.groups(module.outputs)
  }
}

/// What becomes of a product's outputs while they are still in the cache.
public enum LinearFinish {
  /// They are left where they were written.
  case none
  /// The first `size` of each row are added to [rows][size].
  case add(to: UnsafeMutablePointer<Float>, size: Int)
  /// silu(outputs) · (outputs from `up` on), of which `size` a row go to [rows][size].
  case swiglu(up: Int, size: Int, into: UnsafeMutablePointer<Float>)
}

/// Room that linear products need beside their inputs and outputs.
public struct LinearScratch: Sendable {
  let rounded: RoundedRows
  private var shrunk = AlignedBuffer<Float>(count: 0)
  private var copy = AlignedBuffer<Float>(count: 0)

  /// - Parameter columns: the most of any matrix
  public init(rows: Int, columns: Int) { rounded = RoundedRows(rows: rows, columns: columns) }

  mutating func reserve(shrunk count: Int, copy copyCount: Int) -> (
    shrunk: UnsafeMutablePointer<Float>, copy: UnsafeMutablePointer<Float>
  ) {
    if shrunk.count < count { shrunk = AlignedBuffer(count: count) }
    if copy.count < copyCount { copy = AlignedBuffer(count: copyCount) }
    return (shrunk.pointer, copy.pointer)
  }
}

extension Compute {
  /// y = x · Wᵀ + Σ scale · (x · Aᵀ) · Bᵀ, every term on its own rows, and what `finish` says, in two passes of the
  /// pool: all that depends on x alone, then each stretch of outputs from its codes to its end.
  ///
  /// Terms that share rows and outputs are added in their order.
  /// - Parameters:
  ///   - x: [rows][columns]
  ///   - y: [rows][paddedOutputs], written
  public func linear(
    _ w: Matrix, _ x: UnsafePointer<Float>, rows: Int, terms: [LinearTerm], finish: LinearFinish = .none,
    scratch: inout LinearScratch, into y: UnsafeMutablePointer<Float>
  ) {
    guard rows > 0 else { return }
    let ldy = w.paddedOutputs
    var starts: [Int] = []
    starts.reserveCapacity(terms.count)
    var room = 0
    var hasFactors = false
    for term in terms {
      starts.append(room)
      room += term.rows.count * term.module.paddedRank
      hasFactors = hasFactors || term.module.hasRowFactors
    }
    let (shrunk, copy) = scratch.reserve(shrunk: room, copy: hasFactors ? rows * ldy : 0)
    let rounded = scratch.rounded
    prepare(w, x, rows: rows, terms: terms, starts: starts, rounded: rounded, shrunk: shrunk)

    let product = baseProduct(w, x, rows: rows, rounded: rounded, into: y)
    let functions = kernels.functions
    // A stretch of gate's outputs takes the same stretch of up's with it.
    let (groups, mirror) =
      if case .swiglu(let up, _, _) = finish { (up / tileLanes, up / tileLanes) } else { (w.groups, 0) }
    pool.run(count: groups, size: partSize(groups: groups, rows: rows, columns: w.columns)) { part in
      for stretch in mirror > 0 ? [part, part.lowerBound + mirror..<part.upperBound + mirror] : [part] {
        product(stretch)
        if hasFactors { copyRows(terms, stretch, y, copy, ldy: ldy) }
        for (index, term) in terms.enumerated() {
          expand(term, stretch, functions, shrunk + starts[index], y, copy, ldy: ldy)
        }
      }
      finishRows(finish, part, functions, rows: rows, y, ldy: ldy)
    }
  }

  /// Rounds the rows where the product wants them rounded, and computes A · x of every term.
  private func prepare(
    _ w: Matrix, _ x: UnsafePointer<Float>, rows: Int, terms: [LinearTerm], starts: [Int], rounded: RoundedRows,
    shrunk: UnsafeMutablePointer<Float>
  ) {
    let functions = kernels.functions
    let block = roundingBlock(w)
    let rowsAPart = 16
    let roundingParts = block == nil ? 0 : (rows + rowsAPart - 1) / rowsAPart
    var shrinkParts: [(term: Int, rows: Range<Int>)] = []
    for (index, term) in terms.enumerated() {
      for first in stride(from: 0, to: term.rows.count, by: 32) {
        shrinkParts.append((index, first..<min(first + 32, term.rows.count)))
      }
    }
    pool.run(parts: roundingParts + shrinkParts.count) { part in
      if part < roundingParts, let block {
        for row in part * rowsAPart..<min((part + 1) * rowsAPart, rows) {
          functions.quantize(
            x + row * w.columns, w.columns, block, rows, rounded.values.pointer + row * block,
            rounded.scale.pointer + row)
        }
      } else {
        let (index, range) = shrinkParts[part - roundingParts]
        let term = terms[index]
        var factors = term.module.descriptor
        functions.lora_shrink(
          &factors, x + (term.rows.lowerBound + range.lowerBound) * w.columns, w.columns, range.count,
          shrunk + starts[index] + range.lowerBound * term.module.paddedRank, term.module.paddedRank)
      }
    }
  }

  /// Keeps the base's outputs that DoRA scales, before anything is added to them.
  private func copyRows(
    _ terms: [LinearTerm], _ stretch: Range<Int>, _ y: UnsafePointer<Float>, _ copy: UnsafeMutablePointer<Float>,
    ldy: Int
  ) {
    for term in terms where term.module.hasRowFactors {
      let groups = stretch.clamped(to: term.groups)
      for row in term.rows {
        let at = row * ldy + groups.lowerBound * tileLanes
        (copy + at).update(from: y + at, count: groups.count * tileLanes)
      }
    }
  }

  /// Adds a term's share of a stretch of the matrix's groups.
  private func expand(
    _ term: LinearTerm, _ stretch: Range<Int>, _ functions: graft_kernels, _ shrunk: UnsafePointer<Float>,
    _ y: UnsafeMutablePointer<Float>, _ copy: UnsafePointer<Float>, ldy: Int
  ) {
    let groups = stretch.clamped(to: term.groups)
    guard !groups.isEmpty else { return }
    let first = term.groups.lowerBound
    var factors = term.module.descriptor
    functions.lora_expand(
      &factors, shrunk, term.module.paddedRank, term.rows.count, term.scale, term.module.rowFactors,
      y + term.rows.lowerBound * ldy + term.offset, ldy, groups.lowerBound - first, groups.upperBound - first)
    guard let lessOne = term.module.rowFactorsLessOne else { return }
    for row in term.rows {
      let at = row * ldy + groups.lowerBound * tileLanes
      functions.add_scaled(
        y + at, copy + at, lessOne + groups.lowerBound * tileLanes - term.offset, term.weight, groups.count * tileLanes)
    }
  }

  private func finishRows(
    _ finish: LinearFinish, _ groups: Range<Int>, _ functions: graft_kernels, rows: Int,
    _ y: UnsafePointer<Float>, ldy: Int
  ) {
    let first = groups.lowerBound * tileLanes
    switch finish {
    case .none: break
    case .add(let sum, let size):
      let count = min(groups.upperBound * tileLanes, size) - first
      guard count > 0 else { return }
      for row in 0..<rows { functions.add(sum + row * size + first, y + row * ldy + first, count) }
    case .swiglu(let up, let size, let out):
      let count = min(groups.upperBound * tileLanes, size) - first
      guard count > 0 else { return }
      for row in 0..<rows {
        functions.swiglu(y + row * ldy + first, y + row * ldy + up + first, out + row * size + first, count)
      }
    }
  }
}
