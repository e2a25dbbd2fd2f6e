import CKernels

extension Rows {
  /// The matrix, or its transpose, as the kernel reads it.
  func operand(transposed: Bool) -> graft_dense {
    graft_dense(
      values: pointer, row_step: transposed ? 1 : stride, column_step: transposed ? stride : 1)
  }
}

/// How a product is combined with the values that its output holds already.
public enum Accumulation: Sendable {
  /// The product replaces them.
  case overwrite
  /// The product is computed, then added to them.
  case add
  /// The product's sums start from the present values. So a sum over all tokens can be computed in several calls: its
  /// bits are those of one call, wherever the calls divide the tokens.
  case chain

  fileprivate var kernel: graft_accumulation {
    switch self {
    case .overwrite: GRAFT_OVERWRITE
    case .add: GRAFT_ADD
    case .chain: GRAFT_CHAIN
    }
  }
}

extension Compute {
  /// c = alpha · op(a) · op(b), or c + that; op transposes where asked to. In f32, or, where `packsGradients`, in bf16 with
  /// f32 sums.
  ///
  /// Neither the number of threads nor dividing the product by m or n changes a bit; nor does dividing by k between two of
  /// the groups, if the calls accumulate with `.chain`.
  /// - Parameters:
  ///   - a: op(a) is [m, k]
  ///   - b: op(b) is [k, n]
  ///   - groups: where groups of k begin, ascending from 0 and ended by k, each of at most 32; bf16 products are summed
  ///     group by group. `nil` groups 32 after 32
  ///   - c: [m, n]; must not overlap a or b
  public func multiply(
    m: Int, n: Int, k: Int, alpha: Float = 1, _ a: Rows, transposedA: Bool = false, _ b: Rows,
    transposedB: Bool = false, accumulation: Accumulation = .overwrite, groups: [Int]? = nil, into c: Rows
  ) {
    guard m > 0, n > 0 else { return }
    let kernel = kernels.training.multiply_dense
    let tileKernel = packsGradients ? kernels.training.multiply_bf16 : nil
    func multiply(rows: Range<Int>, columns: Range<Int>) {
      let aPart = transposedA ? a.from(column: rows.lowerBound) : a.from(row: rows.lowerBound)
      let bPart = transposedB ? b.from(row: columns.lowerBound) : b.from(column: columns.lowerBound)
      var (left, right) = (aPart.operand(transposed: transposedA), bPart.operand(transposed: transposedB))
      let out = c.from(row: rows.lowerBound, column: columns.lowerBound).pointer
      if let tileKernel {
        tileKernel(
          rows.count, columns.count, k, alpha, &left, &right, groups, (groups?.count ?? 1) - 1, accumulation.kernel,
          out,
          c.stride)
      } else {
        kernel(rows.count, columns.count, k, alpha, &left, &right, accumulation.kernel, out, c.stride)
      }
    }
    // Whole tiles of the kernel.
    let (rowTile, columnTile) = tileKernel == nil ? (12, tileLanes) : (2 * tileLanes, 2 * tileLanes)
    if m >= n {
      pool.run(count: m, size: partSize(m, multiple: rowTile)) { multiply(rows: $0, columns: 0..<n) }
    } else {
      pool.run(count: n, size: partSize(n, multiple: columnTile)) { multiply(rows: 0..<m, columns: $0) }
    }
  }

  /// Rows or columns of one part: two parts for each thread, each a multiple of the kernel's tile.
  private func partSize(_ count: Int, multiple: Int) -> Int {
    let parts = pool.threadCount == 1 ? 1 : pool.threadCount * 2
    return Swift.max((count + parts - 1) / parts + multiple - 1, multiple) / multiple * multiple
  }
}
