import CKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Causal attention over whole rows of a training batch, block-diagonal: no position sees another row's.
///
/// Scores exist for one head and `queryBlock` queries at a time; the way back computes them anew from the saved
/// log-sum-exp (Dao et al., 2022).
public struct RowAttention: Sendable {
  public let headCount: Int
  public let keyValueHeadCount: Int
  public let headSize: Int

  public init(headCount: Int, keyValueHeadCount: Int, headSize: Int) {
    self.headCount = headCount
    self.keyValueHeadCount = keyValueHeadCount
    self.headSize = headSize
  }

  private static let queryBlock = 64

  private var scale: Float { 1 / Float(headSize).squareRoot() }

  /// What one slice attends for.
  public struct Piece: Sendable, Equatable {
    /// A unit is one query head of one row, row after row.
    public let units: Range<Int>
    /// `queryBlock` queries each, of every unit that has them.
    public let blocks: Range<Int>
  }

  /// Pieces of about so many operations each. Those of a unit come in the order of its queries.
  public func pieces(rows: [Range<Int>], operations: Int) -> [Piece] {
    unitRanges(rows: rows, operations: operations).flatMap { units in
      let lengths = units.map { rows[$0 / headCount].count }
      let count = ((lengths.max() ?? 0) + Self.queryBlock - 1) / Self.queryBlock
      var pieces: [Piece] = []
      var (first, sum) = (0, 0)
      for block in 0..<count {
        let end = (block + 1) * Self.queryBlock
        let cost = lengths.reduce(0) { $0 + ($1 > block * Self.queryBlock ? min(end, $1) : 0) }
        sum += cost * 4 * Self.queryBlock * headSize
        if sum >= operations || block == count - 1 {
          pieces.append(Piece(units: units, blocks: first..<block + 1))
          (first, sum) = (block + 1, 0)
        }
      }
      return pieces
    }
  }

  /// Ranges of units of about so many operations each.
  private func unitRanges(rows: [Range<Int>], operations: Int) -> [Range<Int>] {
    var ranges: [Range<Int>] = []
    var (first, sum) = (0, 0)
    for unit in 0..<rows.count * headCount {
      let length = rows[unit / headCount].count
      sum += 2 * length * length * headSize
      // Two units at least, or one thread would wait.
      if sum >= operations, unit > first {
        ranges.append(first..<unit + 1)
        (first, sum) = (unit + 1, 0)
      }
    }
    if first < rows.count * headCount { ranges.append(first..<rows.count * headCount) }
    return ranges
  }

  /// Where the queries of a piece's blocks begin in a row of such a length.
  private static func firstQueries(_ piece: Piece, count: Int) -> StrideTo<Int> {
    stride(
      from: piece.blocks.lowerBound * queryBlock, to: min(piece.blocks.upperBound * queryBlock, count), by: queryBlock)
  }

  /// Attends for one of `pieces`.
  /// - Parameters:
  ///   - rows: where each row begins and ends among the batch's tokens
  ///   - queries, keys, values: rotated, heads side by side
  ///   - out: [tokens][headCount · headSize]
  ///   - logSumExp: [tokens][headCount], kept for the way back
  public func forward(
    _ compute: Compute, rows: [Range<Int>], piece: Piece, queries: Rows, keys: Rows, values: Rows, out: Rows,
    logSumExp: UnsafeMutablePointer<Float>
  ) {
    let expSum = compute.kernels.functions.exp_sum!
    let scaleValues = compute.kernels.training.scale!
    compute.pool.run(parts: piece.units.count) { part in
      let unit = piece.units.lowerBound + part
      let (row, head) = (rows[unit / headCount], unit % headCount)
      let view = HeadView(self, row: row, head: head, queries: queries, keys: keys, values: values)
      let stride = row.count
      withScratch(Self.queryBlock * stride) { scores in
        for first in Self.firstQueries(piece, count: row.count) {
          let count = min(Self.queryBlock, row.count - first)
          view.scores(first: first, count: count, into: Rows(scores, stride: stride))
          let target = out.from(row: row.lowerBound + first, column: head * headSize)
          withUnsafeTemporaryAllocation(of: Float.self, capacity: Self.queryBlock) { sums in
            for i in 0..<count {
              let line = scores + i * stride
              let seen = first + i + 1
              let highest = maximum(line, seen)
              let sum = expSum(line, seen, highest, 1, line)
              for later in seen..<first + count { line[later] = 0 }
              sums[i] = Float(1 / sum)
              logSumExp[(row.lowerBound + first + i) * headCount + head] = highest + Float(log(sum))
            }
            DenseProduct.multiply(
              m: count, n: headSize, k: first + count, alpha: 1, Rows(scores, stride: stride), transposed: false,
              view.values, transposed: false, beta: 0, into: target)
            for i in 0..<count { scaleValues(target.pointer + i * target.stride, sums[i], headSize) }
          }
        }
      }
    }
  }

  /// The gradients of one of `pieces`' queries, and their shares of those of keys and values, which `sumGroups` adds up
  /// when all pieces are done.
  /// - Parameters:
  ///   - out, dout: [tokens][headCount · headSize]
  ///   - perHead: room for 2 · tokens · headCount · headSize floats: each query head's shares
  public func backward(
    _ compute: Compute, rows: [Range<Int>], piece: Piece, queries: Rows, keys: Rows, values: Rows, out: Rows,
    dout: Rows,
    logSumExp: UnsafePointer<Float>, dqueries: Rows, perHead: UnsafeMutablePointer<Float>
  ) {
    let functions = compute.kernels.functions
    let training = compute.kernels.training
    let width = headCount * headSize
    let tokens = rows.last?.upperBound ?? 0
    let headKeys = Rows(perHead, stride: width)
    let headValues = Rows(perHead + tokens * width, stride: width)
    compute.pool.run(parts: piece.units.count) { part in
      let unit = piece.units.lowerBound + part
      let (row, head) = (rows[unit / headCount], unit % headCount)
      let view = HeadView(self, row: row, head: head, queries: queries, keys: keys, values: values)
      let stride = row.count
      let dk = headKeys.from(row: row.lowerBound, column: head * headSize)
      let dv = headValues.from(row: row.lowerBound, column: head * headSize)
      for i in 0..<(piece.blocks.lowerBound == 0 ? row.count : 0) {
        memset(dk.pointer + i * width, 0, headSize * 4)
        memset(dv.pointer + i * width, 0, headSize * 4)
      }
      withScratch(2 * Self.queryBlock * stride) { scratch in
        let scores = Rows(scratch, stride: stride)
        let gradients = Rows(scratch + Self.queryBlock * stride, stride: stride)
        for first in Self.firstQueries(piece, count: row.count) {
          let count = min(Self.queryBlock, row.count - first)
          let end = first + count
          let output = out.from(row: row.lowerBound + first, column: head * headSize)
          let gradient = dout.from(row: row.lowerBound + first, column: head * headSize)
          view.scores(first: first, count: count, into: scores)
          DenseProduct.multiply(
            m: count, n: end, k: headSize, alpha: 1, gradient, transposed: false, view.values, transposed: true,
            beta: 0, into: gradients)
          for i in 0..<count {
            let (p, dp) = (scores.pointer + i * stride, gradients.pointer + i * stride)
            let seen = first + i + 1
            let total = training.dot(
              output.pointer + i * output.stride, gradient.pointer + i * gradient.stride, headSize)
            _ = functions.exp_sum(p, seen, logSumExp[(row.lowerBound + first + i) * headCount + head], 1, p)
            training.softmax_backward(p, dp, total, scale, dp, seen)
            for later in seen..<end {
              p[later] = 0
              dp[later] = 0
            }
          }
          DenseProduct.multiply(
            m: count, n: headSize, k: end, alpha: 1, gradients, transposed: false, view.keys, transposed: false,
            beta: 0, into: dqueries.from(row: row.lowerBound + first, column: head * headSize))
          DenseProduct.multiply(
            m: end, n: headSize, k: count, alpha: 1, gradients, transposed: true, view.queries.from(row: first),
            transposed: false, beta: 1, into: dk)
          DenseProduct.multiply(
            m: end, n: headSize, k: count, alpha: 1, scores, transposed: true, gradient, transposed: false, beta: 1,
            into: dv)
        }
      }
    }
  }

  /// Adds up, in their order, the shares of query heads that share a key-value head.
  /// - Parameters:
  ///   - tokens: in all
  ///   - range: those to do
  ///   - dkeys, dvalues: heads side by side, as keys and values
  public func sumGroups(
    _ compute: Compute, tokens: Int, range: Range<Int>, perHead: UnsafeMutablePointer<Float>, dkeys: Rows, dvalues: Rows
  ) {
    let width = headCount * headSize
    sumGroups(compute, Rows(perHead, stride: width), into: dkeys, range: range)
    sumGroups(compute, Rows(perHead + tokens * width, stride: width), into: dvalues, range: range)
  }

  private func sumGroups(_ compute: Compute, _ heads: Rows, into out: Rows, range tokens: Range<Int>) {
    let add = compute.kernels.functions.add!
    let group = headCount / keyValueHeadCount
    compute.pool.run(count: tokens.count, grain: 16) { range in
      for token in tokens.lowerBound + range.lowerBound..<tokens.lowerBound + range.upperBound {
        for shared in 0..<keyValueHeadCount {
          let target = out.pointer + token * out.stride + shared * headSize
          let first = heads.pointer + token * heads.stride + shared * group * headSize
          target.update(from: first, count: headSize)
          for member in 1..<max(group, 1) { add(target, first + member * headSize, headSize) }
        }
      }
    }
  }

  private func maximum(_ x: UnsafePointer<Float>, _ count: Int) -> Float {
    var highest = -Float.infinity
    for i in 0..<count where x[i] > highest { highest = x[i] }
    return highest
  }

  private func withScratch(_ count: Int, _ body: (UnsafeMutablePointer<Float>) -> Void) {
    let memory = UnsafeMutablePointer<Float>.allocate(capacity: count)
    defer { memory.deallocate() }
    body(memory)
  }

  /// One query head of one row with the keys and values it reads.
  private struct HeadView {
    let queries, keys, values: Rows
    let headSize: Int
    let scale: Float

    init(_ attention: RowAttention, row: Range<Int>, head: Int, queries: Rows, keys: Rows, values: Rows) {
      let shared = head / (attention.headCount / attention.keyValueHeadCount)
      headSize = attention.headSize
      scale = attention.scale
      self.queries = queries.from(row: row.lowerBound, column: head * headSize)
      self.keys = keys.from(row: row.lowerBound, column: shared * headSize)
      self.values = values.from(row: row.lowerBound, column: shared * headSize)
    }

    /// Scaled scores of queries first ..< first + count with all keys up to the last of them.
    func scores(first: Int, count: Int, into out: Rows) {
      DenseProduct.multiply(
        m: count, n: first + count, k: headSize, alpha: scale, queries.from(row: first), transposed: false, keys,
        transposed: true, beta: 0, into: out)
    }
  }
}
