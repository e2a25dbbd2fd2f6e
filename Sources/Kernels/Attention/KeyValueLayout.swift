import CKernels

/// The layout of one block of the key-value cache: 32 positions of all layers.
///
/// A layer's share is, for each key-value head, keys [headSize][32] then values [32][headSize], so that a vector of scores
/// has one position in each lane. For int8, the scales of the keys, [32], and of the values, [32], follow. Int16 has pairs:
/// keys [headSize / 2][32][2], values [16][headSize][2], then the scales.
public struct KeyValueLayout: Sendable, Equatable {
  /// How keys and values are stored. Attention computes in f32, but for products of int16.
  public enum Element: String, CaseIterable, Sendable {
    /// 32-bit floats.
    case f32
    /// Rounded to nearest; magnitudes beyond 65,504 become 65,504.
    case f16
    /// Signed bytes. The key of a head at one position has an f32 scale, its largest magnitude / 127; so has the value.
    case int8
    /// 13-bit signed integers in 16 bits, with scales as for int8: the largest magnitude / 4095. Attention rounds queries
    /// and weights to integers, too, and sums their products exactly.
    case int16

    var bytes: Int {
      switch self {
      case .f32: 4
      case .f16, .int16: 2
      case .int8: 1
      }
    }
    var type: graft_kv_type {
      switch self {
      case .f32: GRAFT_KV_F32
      case .f16: GRAFT_KV_F16
      case .int8: GRAFT_KV_INT8
      case .int16: GRAFT_KV_INT16
      }
    }
    /// Bytes of the scales of one head's keys and values in a block.
    var scaleBytes: Int {
      switch self {
      case .f32, .f16: 0
      case .int8, .int16: 2 * keyValueBlockLength * MemoryLayout<Float>.size
      }
    }

    /// The largest magnitude that a key or value may have. A larger one would be stored as a different number.
    public var maximumMagnitude: Float { self == .f16 ? 65_504 : .greatestFiniteMagnitude }
  }

  /// Query heads.
  public let headCount: Int
  /// Key-value heads; a divisor of `headCount`.
  public let keyValueHeadCount: Int
  /// Values of one head; even.
  public let headSize: Int
  /// Layers of the model.
  public let layerCount: Int
  /// How keys and values are stored.
  public let element: Element

  /// - Parameters:
  ///   - headCount: query heads
  ///   - keyValueHeadCount: key-value heads; a divisor of `headCount`
  ///   - headSize: values of one head; even
  ///   - layerCount: layers of the model
  ///   - element: how keys and values are stored
  public init(headCount: Int, keyValueHeadCount: Int, headSize: Int, layerCount: Int, element: Element) {
    self.headCount = headCount
    self.keyValueHeadCount = keyValueHeadCount
    self.headSize = headSize
    self.layerCount = layerCount
    self.element = element
  }

  private var bytesPerHead: Int { 2 * headSize * keyValueBlockLength * element.bytes + element.scaleBytes }
  /// Bytes of a block, all layers included.
  public var bytesPerBlock: Int { layerCount * keyValueHeadCount * bytesPerHead }

  /// Bytes from the start of a block to a layer's key-value head.
  func offset(layer: Int, head: Int) -> Int { (layer * keyValueHeadCount + head) * bytesPerHead }
}
