import CKernels

/// A row of queries, and the cache blocks of its sequence. The rows of a pass write to different positions.
public struct AttentionRow {
  /// One pointer for every 32 positions up to the row's own, each to a block of `KeyValueLayout.bytesPerBlock` bytes.
  public let blocks: UnsafePointer<UnsafeMutableRawPointer>
  /// The row's position in its sequence, from 0.
  public let position: Int

  /// - Parameters:
  ///   - blocks: one pointer for every 32 positions up to the row's own; the caller keeps them and the blocks alive
  ///   - position: the row's position in its sequence, from 0
  public init(blocks: UnsafePointer<UnsafeMutableRawPointer>, position: Int) {
    self.blocks = blocks
    self.position = position
  }

  /// Rows of consecutive positions of one sequence, at most `limit` together.
  static func tiles(_ rows: [AttentionRow], limit: Int) -> [Range<Int>] {
    var tiles: [Range<Int>] = []
    for row in rows.indices {
      if let last = tiles.last, last.count < limit, rows[row].blocks == rows[last.lowerBound].blocks,
        rows[row].position == rows[row - 1].position + 1
      {
        tiles[tiles.count - 1] = last.lowerBound..<row + 1
      } else {
        tiles.append(row..<row + 1)
      }
    }
    return tiles
  }
}

extension Compute {
  /// One layer's causal attention: rotates queries and keys by their positions (RoPE; Su et al., 2021), stores keys and
  /// values in the cache, and attends.
  ///
  /// A row sees its own and all earlier positions of its sequence that the rule's window has, including those that this call
  /// stores.
  /// - Parameters:
  ///   - rule: `nil` for the plain one
  ///   - rowsShareSequences: whether any two of the rows belong to the same sequence
  ///   - queries: [rows][ld], heads side by side; rotated in place
  ///   - keys: [rows][ld], heads side by side; rotated in place
  ///   - values: [rows][ld], heads side by side
  ///   - ld: floats from one row to the next
  ///   - cosine: [position][rotarySize / 2]; `nil` rotates nothing
  ///   - sine: [position][rotarySize / 2]; `nil` rotates nothing
  ///   - out: [rows][headCount · headSize], written
  public func attention(
    _ layout: KeyValueLayout, rule: AttentionRule? = nil, layer: Int, rows: [AttentionRow], rowsShareSequences: Bool,
    queries: UnsafeMutablePointer<Float>, keys: UnsafeMutablePointer<Float>, values: UnsafePointer<Float>, ld: Int,
    cosine: UnsafePointer<Float>?, sine: UnsafePointer<Float>?, out: UnsafeMutablePointer<Float>
  ) {
    let layer = AttentionLayer(
      functions: kernels.forward, layout: layout, rule: rule ?? AttentionRule(headSize: layout.headSize),
      layer: layer, rows: rows, queries: queries, keys: keys,
      values: values, ld: ld, cosine: cosine, sine: sine, out: out)
    if rowsShareSequences {
      layer.storeThenAttend(pool)
    } else if layer.isWorthSplitting(threads: pool.threadCount) {
      layer.attendInSpans(pool)
    } else {
      layer.storeAndAttend(pool)
    }
  }
}
