import CKernels

/// The shape of one layer's share of a cache block: for each key-value head, keys [headSize][32] then values
/// [32][headSize], so that a vector of scores has a position to a lane; for int8 then the scales of both, [2][32].
public struct KeyValueLayout: Sendable, Equatable {
  /// How keys and values are kept. What is computed with them is f32.
  public enum Element: String, CaseIterable, Sendable {
    case f32
    /// Rounded to nearest; beyond ±65,504 to that.
    case f16
    /// Signed bytes; a head's key, and its value, at one position have an f32 scale each: the largest magnitude / 127.
    case int8

    var bytes: Int {
      switch self {
      case .f32: 4
      case .f16: 2
      case .int8: 1
      }
    }
    var type: graft_kv_type {
      switch self {
      case .f32: GRAFT_KV_F32
      case .f16: GRAFT_KV_F16
      case .int8: GRAFT_KV_INT8
      }
    }
    /// Of a head's keys and values in one block.
    var scaleBytes: Int { self == .int8 ? 2 * keyValueBlockLength * MemoryLayout<Float>.size : 0 }
  }

  public let headCount: Int
  public let keyValueHeadCount: Int
  public let headSize: Int
  public let layerCount: Int
  public let element: Element

  public init(headCount: Int, keyValueHeadCount: Int, headSize: Int, layerCount: Int, element: Element) {
    self.headCount = headCount
    self.keyValueHeadCount = keyValueHeadCount
    self.headSize = headSize
    self.layerCount = layerCount
    self.element = element
  }

  private var bytesPerHead: Int { 2 * headSize * keyValueBlockLength * element.bytes + element.scaleBytes }
  /// Bytes of a block, all layers.
  public var bytesPerBlock: Int { layerCount * keyValueHeadCount * bytesPerHead }

  /// Where in a block a head of a layer begins, in bytes.
  func offset(layer: Int, head: Int) -> Int { (layer * keyValueHeadCount + head) * bytesPerHead }
}

/// A row of queries and the cache blocks of the sequence it belongs to.
public struct AttentionRow: @unchecked Sendable {
  /// One pointer for every 32 positions, to a block of `KeyValueLayout.bytesPerBlock` bytes.
  /// `@unchecked Sendable`: a step's rows write to different positions, and read only after all are written.
  public let blocks: UnsafePointer<UnsafeMutableRawPointer>
  public let position: Int

  public init(blocks: UnsafePointer<UnsafeMutableRawPointer>, position: Int) {
    self.blocks = blocks
    self.position = position
  }
}

extension Compute {
  /// Rotates queries and keys by their positions, stores keys and values, and attends.
  ///
  /// A row sees its own and all earlier positions of its sequence, those of this very call included.
  /// - Parameters:
  ///   - rowsShareSequences: whether some sequence has more than one of the rows
  ///   - queries, keys, values: [rows][ld], heads side by side; queries and keys are rotated in place
  ///   - cosine, sine: [position][headSize / 2]
  ///   - out: [rows][headCount · headSize]
  public func attention(
    _ layout: KeyValueLayout, layer: Int, rows: [AttentionRow], rowsShareSequences: Bool,
    queries: UnsafeMutablePointer<Float>,
    keys: UnsafeMutablePointer<Float>, values: UnsafePointer<Float>, ld: Int,
    cosine: UnsafePointer<Float>, sine: UnsafePointer<Float>, out: UnsafeMutablePointer<Float>
  ) {
    let half = layout.headSize / 2
    let group = layout.headCount / layout.keyValueHeadCount
    let (heads, functions) = (layout.keyValueHeadCount, kernels.functions)
    let scale = 1 / Float(layout.headSize).squareRoot()

    /// Rotates a row's queries of one key-value head and its key, and stores the key and the value.
    func enter(row: Int, head: Int) {
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
      let blocks = UnsafeRawPointer(rows[row].blocks).assumingMemoryBound(to: UnsafeRawPointer?.self)
      var attention = graft_attention(
        blocks: blocks, type: layout.element.type, head_size: layout.headSize, heads_per_group: group, scale: scale)
      let first = head * group * layout.headSize
      functions.attend(
        &attention, queries + row * ld + first, layout.offset(layer: layer, head: head), rows[row].position + 1,
        out + row * layout.headCount * layout.headSize + first)
    }

    if !rowsShareSequences {
      // A row then reads no other row's key, so that one pass does it all.
      return pool.run(count: rows.count * heads, grain: 1) { range in
        for part in range {
          enter(row: part / heads, head: part % heads)
          attend(row: part / heads, head: part % heads)
        }
      }
    }
    pool.run(count: rows.count, grain: 4) { range in
      for row in range { for head in 0..<heads { enter(row: row, head: head) } }
    }
    // Later rows of a sequence have more to attend to: small parts, so that threads end together.
    pool.run(count: rows.count * heads, size: max(1, min(8, rows.count * heads / (pool.threadCount * 4)))) { range in
      for part in range { attend(row: part / heads, head: part % heads) }
    }
  }
}
