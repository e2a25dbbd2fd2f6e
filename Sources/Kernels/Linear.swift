import CKernels

/// What an adapter adds to some rows of a product. It does not keep the adapter's module, whose bytes it points to:
/// who computes with it does. So a batch's many terms are made without counting references.
///
/// `@unchecked Sendable`: a module never changes.
public struct LinearTerm: @unchecked Sendable {
  let rows: Range<Int>
  /// Of the matrix's groups, those that the module adds to.
  let groups: Range<Int>
  let offset: Int
  let scale: Float
  let weight: Float
  let factors: graft_lora
  let paddedRank: Int
  private let bytesPerGroup: Int
  private let shrinkBytes: Int
  let rowFactors: UnsafePointer<Float>?
  let rowFactorsLessOne: UnsafePointer<Float>?

  /// - Parameters:
  ///   - rows: of the batch
  ///   - offset: where the module's outputs begin among the matrix's; a multiple of 16
  ///   - scale: the request's weight, times α/r (or α/√r)
  ///   - weight: the request's weight alone, which DoRA's change of the base's share takes
  public init(_ module: LowRank, rows: Range<Int>, offset: Int, scale: Float, weight: Float) {
    self.rows = rows
    self.offset = offset
    self.scale = scale
    self.weight = weight
    groups = offset / tileLanes..<offset / tileLanes + TileLayout.groups(module.outputs)
    factors = module.descriptor
    paddedRank = module.paddedRank
    bytesPerGroup = module.bytesPerGroup
    shrinkBytes = module.shrinkBytes
    rowFactors = module.rowFactors
    rowFactorsLessOne = module.rowFactorsLessOne
  }

  /// B, each group's bytes while the product computes that group.
  var expansion: graft_fetch {
    graft_fetch(
      at: factors.b.assumingMemoryBound(to: CChar.self), bytes: bytesPerGroup, group_begin: groups.lowerBound,
      group_end: groups.upperBound)
  }

  /// A, an even part of its bytes with each of a product's groups.
  func shrinking(over groups: Int) -> graft_fetch {
    let lines = (shrinkBytes + 63) / 64
    return graft_fetch(
      at: factors.a.assumingMemoryBound(to: CChar.self), bytes: (lines + groups - 1) / groups * 64, group_begin: 0,
      group_end: groups)
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
  ///   - terms: their modules outlive the call
  ///   - upcoming: those of the product after this one, whose first bytes are brought into the cache meanwhile
  ///   - y: [rows][paddedOutputs], written
  public func linear(
    _ w: Matrix, _ x: UnsafePointer<Float>, rows: Int, terms: [LinearTerm], upcoming: [LinearTerm] = [],
    finish: LinearFinish = .none, scratch: inout LinearScratch, into y: UnsafeMutablePointer<Float>
  ) {
    guard rows > 0 else { return }
    let ldy = w.paddedOutputs
    let (room, hasFactors) = terms.reduce(into: (0, false)) { sum, term in
      sum.0 += term.rows.count * term.paddedRank
      sum.1 = sum.1 || term.rowFactors != nil
    }
    let (shrunk, copy) = scratch.reserve(shrunk: room, copy: hasFactors ? rows * ldy : 0)
    let product = BaseProduct(self, w, x, rows: rows, rounded: scratch.rounded, into: y)
    let functions = kernels.functions
    let fetches = terms.map(\.expansion) + upcoming.map { $0.shrinking(over: w.groups) }
    terms.withUnsafeBufferPointer { terms in
      prepare(product, x, terms: terms, shrunk: shrunk)
      func compute(_ stretch: Range<Int>) {
        fetches.withUnsafeBufferPointer { product.compute(stretch, fetches: $0) }
        if hasFactors { copyRows(terms, stretch, y, copy, ldy: ldy) }
        var u = UnsafePointer(shrunk)
        for index in terms.indices {
          let term = terms.baseAddress! + index
          if term.pointee.groups.overlaps(stretch) { expand(term, stretch, functions, u, y, copy, ldy: ldy) }
          u += term.pointee.rows.count * term.pointee.paddedRank
        }
      }
      // A stretch of gate's outputs takes the same stretch of up's with it.
      let mirror = if case .swiglu(let up, _, _) = finish { up / tileLanes } else { 0 }
      pool.run(count: mirror > 0 ? mirror : w.groups, grain: leastGroups(rows: rows, columns: w.columns)) { part in
        compute(part)
        if mirror > 0 { compute(part.lowerBound + mirror..<part.upperBound + mirror) }
        finishRows(finish, part, functions, rows: rows, y, ldy: ldy)
      }
    }
  }

  /// Rounds the rows where the product wants them rounded, and computes A · x of every term.
  private func prepare(
    _ product: BaseProduct, _ x: UnsafePointer<Float>, terms: UnsafeBufferPointer<LinearTerm>,
    shrunk: UnsafeMutablePointer<Float>
  ) {
    let roundingParts = product.roundingParts
    if terms.isEmpty { return pool.run(parts: roundingParts) { product.round(part: $0) } }
    let functions = kernels.functions
    // Terms are cut into parts of so many rows; the longest says how many parts each is given.
    let rowsAPart = 32
    let partsATerm = terms.reduce(1) { max($0, ($1.rows.count + rowsAPart - 1) / rowsAPart) }
    pool.run(parts: roundingParts + terms.count * partsATerm) { part in
      if part < roundingParts { return product.round(part: part) }
      let (index, piece) = (part - roundingParts).quotientAndRemainder(dividingBy: partsATerm)
      let term = terms.baseAddress! + index
      let first = piece * rowsAPart
      let count = min(rowsAPart, term.pointee.rows.count - first)
      guard count > 0 else { return }
      let start = terms[..<index].reduce(0) { $0 + $1.rows.count * $1.paddedRank }
      withUnsafePointer(to: term.pointee.factors) { factors in
        functions.lora_shrink(
          factors, x + (term.pointee.rows.lowerBound + first) * product.columns, product.columns, count,
          shrunk + start + first * term.pointee.paddedRank, term.pointee.paddedRank)
      }
    }
  }

  /// Keeps the base's outputs that DoRA scales, before anything is added to them.
  private func copyRows(
    _ terms: UnsafeBufferPointer<LinearTerm>, _ stretch: Range<Int>, _ y: UnsafePointer<Float>,
    _ copy: UnsafeMutablePointer<Float>, ldy: Int
  ) {
    for term in terms where term.rowFactors != nil {
      let groups = stretch.clamped(to: term.groups)
      for row in term.rows {
        let at = row * ldy + groups.lowerBound * tileLanes
        (copy + at).update(from: y + at, count: groups.count * tileLanes)
      }
    }
  }

  /// Adds a term's share of a stretch of the matrix's groups.
  private func expand(
    _ term: UnsafePointer<LinearTerm>, _ stretch: Range<Int>, _ functions: graft_kernels,
    _ shrunk: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ copy: UnsafePointer<Float>, ldy: Int
  ) {
    let (first, rows, offset) = (term.pointee.groups.lowerBound, term.pointee.rows, term.pointee.offset)
    let groups = stretch.clamped(to: term.pointee.groups)
    withUnsafePointer(to: term.pointee.factors) { factors in
      functions.lora_expand(
        factors, shrunk, term.pointee.paddedRank, rows.count, term.pointee.scale, term.pointee.rowFactors,
        y + rows.lowerBound * ldy + offset, ldy, groups.lowerBound - first, groups.upperBound - first)
    }
    guard let lessOne = term.pointee.rowFactorsLessOne else { return }
    for row in rows {
      let at = row * ldy + groups.lowerBound * tileLanes
      functions.add_scaled(
        y + at, copy + at, lessOne + groups.lowerBound * tileLanes - offset, term.pointee.weight,
        groups.count * tileLanes)
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
