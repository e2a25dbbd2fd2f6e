import CKernels

/// A row of queries, and the cache blocks of its sequence.
///
/// `@unchecked Sendable`: the rows of a pass write to different positions, and positions are read only after all rows
/// have written theirs.
public struct AttentionRow: @unchecked Sendable {
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
}

extension Compute {
  /// One layer's causal attention: rotates queries and keys by their positions (RoPE; Su et al., 2021), stores keys and
  /// values in the cache, and attends.
  ///
  /// A row sees its own and all earlier positions of its sequence, including those that this call stores.
  /// - Parameters:
  ///   - rowsShareSequences: whether any two of the rows belong to the same sequence
  ///   - queries, keys, values: [rows][ld], heads side by side; queries and keys are rotated in place
  ///   - ld: floats from one row to the next
  ///   - cosine, sine: [position][headSize / 2]
  ///   - out: [rows][headCount · headSize], written
  public func attention(
    _ layout: KeyValueLayout, layer: Int, rows: [AttentionRow], rowsShareSequences: Bool,
    queries: UnsafeMutablePointer<Float>, keys: UnsafeMutablePointer<Float>, values: UnsafePointer<Float>, ld: Int,
    cosine: UnsafePointer<Float>, sine: UnsafePointer<Float>, out: UnsafeMutablePointer<Float>
  ) {
    let half = layout.headSize / 2
    let group = layout.headCount / layout.keyValueHeadCount
    let (heads, functions) = (layout.keyValueHeadCount, kernels.forward)
    let scale = 1 / Float(layout.headSize).squareRoot()

    /// Rotates the key of one key-value head and the queries that read it, and stores the key and the value.
    func store(row: Int, head: Int) {
      let position = rows[row].position
      let (c, s) = (cosine + position * half, sine + position * half)
      let key = keys + row * ld + head * layout.headSize
      functions.rope(queries + row * ld + head * group * layout.headSize, group, layout.headSize, c, s)
      functions.rope(key, 1, layout.headSize, c, s)
      let block = rows[row].blocks[position / keyValueBlockLength]
      functions.store_kv(
        key, values + row * ld + head * layout.headSize, layout.element.type, layout.headSize,
        position % keyValueBlockLength, block + layout.offset(layer: layer, head: head))
    }
    func attend(row: Int, head: Int) {
      let blocks = UnsafeRawPointer(rows[row].blocks).assumingMemoryBound(to: UnsafeRawPointer.self)
      var attention = graft_attention(
        blocks: blocks, type: layout.element.type, head_size: layout.headSize, heads_per_group: group, scale: scale)
      let first = head * group * layout.headSize
      functions.attend(
        &attention, queries + row * ld + first, layout.offset(layer: layer, head: head), rows[row].position + 1,
        out + row * layout.headCount * layout.headSize + first)
    }

    if !rowsShareSequences {
      // No row reads another row's key, so one task can store and attend.
      return pool.run(count: rows.count * heads, grain: 1) { range in
        for part in range {
          store(row: part / heads, head: part % heads)
          attend(row: part / heads, head: part % heads)
        }
      }
    }
    pool.run(count: rows.count, grain: 4) { range in
      for row in range { for head in 0..<heads { store(row: row, head: head) } }
    }
    // Later rows of a sequence attend to more positions. Small ranges let the threads end together.
    pool.run(count: rows.count * heads, size: max(1, min(8, rows.count * heads / (pool.threadCount * 4)))) { range in
      for part in range { attend(row: part / heads, head: part % heads) }
    }
  }
}
