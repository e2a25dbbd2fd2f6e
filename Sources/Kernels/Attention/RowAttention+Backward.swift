import CKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

extension RowAttention {
  /// The gradients of the queries of one of `parts`, and what each query head contributes to the gradients of its keys and
  /// values. When all parts are done, `sumHeadGroups` adds the contributions up.
  /// - Parameters:
  ///   - rows: the tokens of each row
  ///   - queries: as in the forward pass
  ///   - keys: as in the forward pass
  ///   - values: as in the forward pass
  ///   - out: as in the forward pass
  ///   - logSumExp: as in the forward pass
  ///   - dout: the gradient of `out`
  ///   - dqueries: [tokens], heads side by side; the part's queries and heads are written
  ///   - perHead: [2][tokens][headCount · headSize]: contributions to keys, then to values. A head's first part overwrites
  ///     them, the others add to them
  public func backward(
    _ compute: Compute, rows: [Range<Int>], part: Part, queries: Rows, keys: Rows, values: Rows, out: Rows,
    dout: Rows, logSumExp: UnsafePointer<Float>, dqueries: Rows, perHead: UnsafeMutablePointer<Float>
  ) {
    let functions = compute.kernels.forward
    let training = compute.kernels.training
    let width = headCount * headSize
    let tokens = rows.last?.upperBound ?? 0
    let headKeys = Rows(perHead, stride: width)
    let headValues = Rows(perHead + tokens * width, stride: width)
    compute.pool.run(parts: part.heads.count) { offset in
      let index = part.heads.lowerBound + offset
      let (row, head) = (rows[index / headCount], index % headCount)
      let view = HeadView(self, row: row, head: head, queries: queries, keys: keys, values: values)
      let stride = row.count
      let dk = headKeys.from(row: row.lowerBound, column: head * headSize)
      let dv = headValues.from(row: row.lowerBound, column: head * headSize)
      for i in 0..<(part.queryBlocks.lowerBound == 0 ? row.count : 0) {
        memset(dk.pointer + i * width, 0, headSize * 4)
        memset(dv.pointer + i * width, 0, headSize * 4)
      }
      withScratch((2 * Self.queryBlockLength + 1) * stride) { scratch in
        let capped = scratch + 2 * Self.queryBlockLength * stride
        let scores = Rows(scratch, stride: stride)
        let gradients = Rows(scratch + Self.queryBlockLength * stride, stride: stride)
        for first in firstQueries(of: part, count: row.count) {
          let count = min(Self.queryBlockLength, row.count - first)
          let end = first + count
          let output = out.from(row: row.lowerBound + first, column: head * headSize)
          let gradient = dout.from(row: row.lowerBound + first, column: head * headSize)
          view.scores(first: first, count: count, into: scores)
          OpenBLASProduct.multiply(
            m: count, n: end, k: headSize, alpha: 1, gradient, transposed: false, view.values, transposed: true,
            beta: 0, into: gradients)
          for i in 0..<count {
            let (p, dp) = (scores.pointer + i * stride, gradients.pointer + i * stride)
            let visible = visible(from: first + i)
            let (seen, dSeen) = (p + visible.lowerBound, dp + visible.lowerBound)
            let total = training.dot(
              output.pointer + i * output.stride, gradient.pointer + i * gradient.stride, headSize)
            if let cap = rule.softCap {
              functions.soft_cap(seen, cap, visible.count)
              capped.update(from: seen, count: visible.count)
            }
            let logSum = logSumExp[(row.lowerBound + first + i) * headCount + head]
            _ = functions.exp_sum(seen, visible.count, logSum, 1, seen)
            training.softmax_backward(seen, dSeen, total, scale, dSeen, visible.count)
            if let cap = rule.softCap { training.soft_cap_backward(capped, cap, dSeen, visible.count) }
            for hidden in 0..<visible.lowerBound { (p[hidden], dp[hidden]) = (0, 0) }
            for hidden in visible.upperBound..<end { (p[hidden], dp[hidden]) = (0, 0) }
          }
          OpenBLASProduct.multiply(
            m: count, n: headSize, k: end, alpha: 1, gradients, transposed: false, view.keys, transposed: false,
            beta: 0, into: dqueries.from(row: row.lowerBound + first, column: head * headSize))
          OpenBLASProduct.multiply(
            m: end, n: headSize, k: count, alpha: 1, gradients, transposed: true, view.queries.from(row: first),
            transposed: false, beta: 1, into: dk)
          OpenBLASProduct.multiply(
            m: end, n: headSize, k: count, alpha: 1, scores, transposed: true, gradient, transposed: false, beta: 1,
            into: dv)
        }
      }
    }
  }

  /// Gradients of keys and values: adds up, in order, what the query heads of each key-value head contribute.
  /// - Parameters:
  ///   - tokens: all tokens of the batch
  ///   - range: the tokens to compute
  ///   - perHead: what `backward` wrote
  ///   - dkeys: [tokens], key-value heads side by side, written
  ///   - dvalues: [tokens], key-value heads side by side, written
  public func sumHeadGroups(
    _ compute: Compute, tokens: Int, range: Range<Int>, perHead: UnsafeMutablePointer<Float>, dkeys: Rows, dvalues: Rows
  ) {
    let width = headCount * headSize
    sumHeadGroups(compute, range: range, perHead: Rows(perHead, stride: width), into: dkeys)
    sumHeadGroups(compute, range: range, perHead: Rows(perHead + tokens * width, stride: width), into: dvalues)
  }

  private func sumHeadGroups(_ compute: Compute, range tokens: Range<Int>, perHead: Rows, into out: Rows) {
    let add = compute.kernels.forward.add
    let group = headCount / keyValueHeadCount
    compute.pool.run(count: tokens.count, grain: 16) { range in
      for token in tokens.lowerBound + range.lowerBound..<tokens.lowerBound + range.upperBound {
        for keyValueHead in 0..<keyValueHeadCount {
          let target = out.pointer + token * out.stride + keyValueHead * headSize
          let first = perHead.pointer + token * perHead.stride + keyValueHead * group * headSize
          target.update(from: first, count: headSize)
          for member in 1..<max(group, 1) { add(target, first + member * headSize, headSize) }
        }
      }
    }
  }
}
