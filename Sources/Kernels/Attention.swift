import CKernels

/// The shape of one layer's share of a cache block: for each key-value head, keys [headSize][32] then values
/// [32][headSize], so that a vector of scores has a position to a lane.
public struct KeyValueLayout: Sendable, Equatable {
  public let headCount: Int
  public let keyValueHeadCount: Int
  public let headSize: Int
  public let layerCount: Int

  public init(headCount: Int, keyValueHeadCount: Int, headSize: Int, layerCount: Int) {
    self.headCount = headCount
    self.keyValueHeadCount = keyValueHeadCount
    self.headSize = headSize
    self.layerCount = layerCount
  }

  var floatsPerHead: Int { 2 * headSize * keyValueBlockLength }
  var floatsPerLayer: Int { keyValueHeadCount * floatsPerHead }
  /// Floats of a block, all layers.
  public var floatsPerBlock: Int { layerCount * floatsPerLayer }

  /// Stores one position's keys and values, [keyValueHeadCount][headSize] each.
  func store(
    keys: UnsafePointer<Float>, values: UnsafePointer<Float>, layer: Int, position: Int,
    in block: UnsafeMutablePointer<Float>
  ) {
    let slot = position % keyValueBlockLength
    for head in 0..<keyValueHeadCount {
      let k = block + layer * floatsPerLayer + head * floatsPerHead
      let v = k + headSize * keyValueBlockLength + slot * headSize
      for i in 0..<headSize {
        k[i * keyValueBlockLength + slot] = keys[head * headSize + i]
        v[i] = values[head * headSize + i]
      }
    }
  }
}

/// A row of queries and the cache blocks of the sequence it belongs to.
public struct AttentionRow: @unchecked Sendable {
  /// One pointer for every 32 positions, to a block of `KeyValueLayout.floatsPerBlock` floats.
  /// `@unchecked Sendable`: a step's rows write to different positions, and read only after all are written.
  public let blocks: UnsafePointer<UnsafeMutablePointer<Float>>
  public let position: Int

  public init(blocks: UnsafePointer<UnsafeMutablePointer<Float>>, position: Int) {
    self.blocks = blocks
    self.position = position
  }
}

extension Compute {
  /// Rotates queries and keys by their positions, stores keys and values, and attends.
  ///
  /// A row sees its own and all earlier positions of its sequence, those of this very call included.
  /// - Parameters:
  ///   - queries, keys, values: [rows][ld], heads side by side; queries and keys are rotated in place
  ///   - cosine, sine: [position][headSize / 2]
  ///   - out: [rows][headCount · headSize]
  public func attention(
    _ layout: KeyValueLayout, layer: Int, rows: [AttentionRow], queries: UnsafeMutablePointer<Float>,
    keys: UnsafeMutablePointer<Float>, values: UnsafePointer<Float>, ld: Int,
    cosine: UnsafePointer<Float>, sine: UnsafePointer<Float>, out: UnsafeMutablePointer<Float>
  ) {
    let functions = kernels.functions
    let half = layout.headSize / 2
    pool.run(count: rows.count, grain: 4) { range in
      for row in range {
        let position = rows[row].position
        let (c, s) = (cosine + position * half, sine + position * half)
        functions.rope(queries + row * ld, layout.headCount, layout.headSize, c, s)
        functions.rope(keys + row * ld, layout.keyValueHeadCount, layout.headSize, c, s)
        layout.store(
          keys: keys + row * ld, values: values + row * ld, layer: layer, position: position,
          in: rows[row].blocks[position / keyValueBlockLength])
      }
    }
    let group = layout.headCount / layout.keyValueHeadCount
    let scale = 1 / Float(layout.headSize).squareRoot()
    pool.run(count: rows.count * layout.keyValueHeadCount, grain: 1) { range in
      for part in range {
        let (row, head) = (part / layout.keyValueHeadCount, part % layout.keyValueHeadCount)
        let blocks = UnsafeRawPointer(rows[row].blocks).assumingMemoryBound(to: UnsafePointer<Float>?.self)
        var attention = graft_attention(
          blocks: blocks, head_size: layout.headSize, heads_per_group: group, scale: scale)
        let first = head * group * layout.headSize
        functions.attend(
          &attention, queries + row * ld + first, layer * layout.floatsPerLayer + head * layout.floatsPerHead,
          rows[row].position + 1, out + row * layout.headCount * layout.headSize + first)
      }
    }
  }
}
