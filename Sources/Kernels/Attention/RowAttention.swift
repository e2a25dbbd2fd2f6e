/// Causal attention over whole rows of a training batch. Attention is block-diagonal: no position sees another row's.
///
/// Scores exist only for one head and `queryBlockLength` queries at a time. The backward pass computes them again from the
/// log-sum-exp that the forward pass saved (Dao et al., 2022).
public struct RowAttention: Sendable {
  /// Query heads.
  public let headCount: Int
  /// Key-value heads; a divisor of `headCount`.
  public let keyValueHeadCount: Int
  /// Values of one head.
  public let headSize: Int
  /// The scale of scores, their cap and the window.
  public let rule: AttentionRule

  /// - Parameters:
  ///   - headCount: query heads
  ///   - keyValueHeadCount: key-value heads; a divisor of `headCount`
  ///   - headSize: values of one head
  ///   - rule: `nil` for the plain one
  public init(headCount: Int, keyValueHeadCount: Int, headSize: Int, rule: AttentionRule? = nil) {
    self.rule = rule ?? AttentionRule(headSize: headSize)
    self.headCount = headCount
    self.keyValueHeadCount = keyValueHeadCount
    self.headSize = headSize
  }

  static let queryBlockLength = 64

  /// The factor on scores.
  var scale: Float { rule.scale }

  /// The keys that a query sees.
  func visible(from query: Int) -> Range<Int> { rule.firstVisible(from: query)..<query + 1 }

  /// A part of the batch's attention.
  public struct Part: Sendable, Equatable {
    /// Query heads, numbered through all rows: head h of row r is r · headCount + h.
    public let heads: Range<Int>
    /// Blocks of 64 queries, numbered within a row. The part has these blocks of each of its heads.
    public let queryBlocks: Range<Int>
  }

  /// Divides the batch's attention into parts of about `operations` operations each (a multiplication and an addition
  /// count as two). The parts of a head are in the order of its queries, and must be computed in that order.
  /// - Parameter rows: the tokens of each row
  public func parts(rows: [Range<Int>], operations: Int) -> [Part] {
    headRanges(rows: rows, operations: operations).flatMap { heads in
      let lengths = heads.map { rows[$0 / headCount].count }
      let count = ((lengths.max() ?? 0) + Self.queryBlockLength - 1) / Self.queryBlockLength
      var parts: [Part] = []
      var (first, sum) = (0, 0)
      for block in 0..<count {
        let end = (block + 1) * Self.queryBlockLength
        let cost = lengths.reduce(0) { $0 + ($1 > block * Self.queryBlockLength ? min(end, $1) : 0) }
        sum += cost * 4 * Self.queryBlockLength * headSize
        if sum >= operations || block == count - 1 {
          parts.append(Part(heads: heads, queryBlocks: first..<block + 1))
          (first, sum) = (block + 1, 0)
        }
      }
      return parts
    }
  }

  /// Ranges of heads, numbered through all rows, of about so many operations each.
  private func headRanges(rows: [Range<Int>], operations: Int) -> [Range<Int>] {
    var ranges: [Range<Int>] = []
    var (first, sum) = (0, 0)
    for head in 0..<rows.count * headCount {
      let length = rows[head / headCount].count
      sum += 2 * length * length * headSize
      // At least two heads, because the threads divide a part by its heads.
      if sum >= operations, head > first {
        ranges.append(first..<head + 1)
        (first, sum) = (head + 1, 0)
      }
    }
    if first < rows.count * headCount { ranges.append(first..<rows.count * headCount) }
    return ranges
  }

  /// The first query of each of a part's blocks, in a row of `count` tokens.
  func firstQueries(of part: Part, count: Int) -> StrideTo<Int> {
    stride(
      from: part.queryBlocks.lowerBound * Self.queryBlockLength,
      to: min(part.queryBlocks.upperBound * Self.queryBlockLength, count), by: Self.queryBlockLength)
  }

  func withScratch(_ count: Int, _ body: (UnsafeMutablePointer<Float>) -> Void) {
    let memory = UnsafeMutablePointer<Float>.allocate(capacity: count)
    defer { memory.deallocate() }
    body(memory)
  }

  /// One query head of one row, with the keys and values that it reads.
  struct HeadView {
    let queries, keys, values: Rows
    let headSize: Int
    let scale: Float

    init(_ attention: RowAttention, row: Range<Int>, head: Int, queries: Rows, keys: Rows, values: Rows) {
      let keyValueHead = head / (attention.headCount / attention.keyValueHeadCount)
      headSize = attention.headSize
      scale = attention.scale
      self.queries = queries.from(row: row.lowerBound, column: head * headSize)
      self.keys = keys.from(row: row.lowerBound, column: keyValueHead * headSize)
      self.values = values.from(row: row.lowerBound, column: keyValueHead * headSize)
    }

    /// Scaled scores of queries first ..< first + count with all keys up to the last query's.
    func scores(first: Int, count: Int, into out: Rows) {
      OpenBLASProduct.multiply(
        m: count, n: first + count, k: headSize, alpha: scale, queries.from(row: first), transposed: false, keys,
        transposed: true, beta: 0, into: out)
    }
  }
}
