import CKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

extension RowAttention {
  /// Attends for one of `parts`.
  /// - Parameters:
  ///   - rows: the tokens of each row
  ///   - queries: [tokens], heads side by side; rotated
  ///   - keys: [tokens], heads side by side; rotated
  ///   - values: [tokens], heads side by side
  ///   - out: [tokens][headCount · headSize], of which the part's queries and heads are written
  ///   - logSumExp: [tokens][headCount], written, for the backward pass
  public func forward(
    _ compute: Compute, rows: [Range<Int>], part: Part, queries: Rows, keys: Rows, values: Rows, out: Rows,
    logSumExp: UnsafeMutablePointer<Float>
  ) {
    let expSum = compute.kernels.forward.exp_sum
    let softCap = compute.kernels.forward.soft_cap
    let scaleValues = compute.kernels.training.scale
    compute.pool.run(parts: part.heads.count) { offset in
      let index = part.heads.lowerBound + offset
      let (row, head) = (rows[index / headCount], index % headCount)
      let view = HeadView(self, row: row, head: head, queries: queries, keys: keys, values: values)
      let stride = row.count
      withScratch(Self.queryBlockLength * stride) { scores in
        for first in firstQueries(of: part, count: row.count) {
          let count = min(Self.queryBlockLength, row.count - first)
          view.scores(first: first, count: count, into: Rows(scores, stride: stride))
          let target = out.from(row: row.lowerBound + first, column: head * headSize)
          withUnsafeTemporaryAllocation(of: Float.self, capacity: Self.queryBlockLength) { inverses in
            for i in 0..<count {
              let weights = scores + i * stride
              let visible = visible(from: first + i)
              let seen = weights + visible.lowerBound
              if let cap = rule.softCap { softCap(seen, cap, visible.count) }
              let maximum = maximum(seen, visible.count)
              let sum = expSum(seen, visible.count, maximum, 1, seen)
              for hidden in 0..<visible.lowerBound { weights[hidden] = 0 }
              for hidden in visible.upperBound..<first + count { weights[hidden] = 0 }
              inverses[i] = Float(1 / sum)
              logSumExp[(row.lowerBound + first + i) * headCount + head] = maximum + Float(log(sum))
            }
            OpenBLASProduct.multiply(
              m: count, n: headSize, k: first + count, alpha: 1, Rows(scores, stride: stride), transposed: false,
              view.values, transposed: false, beta: 0, into: target)
            for i in 0..<count { scaleValues(target.pointer + i * target.stride, inverses[i], headSize) }
          }
        }
      }
    }
  }

  private func maximum(_ x: UnsafePointer<Float>, _ count: Int) -> Float {
    var maximum = -Float.infinity
    for i in 0..<count where x[i] > maximum { maximum = x[i] }
    return maximum
  }
}
