import CKernels

/// The two factors of a LoRA module (Hu et al., 2021) in the kernels' layout (CKernels.h has its picture), with no
/// padding to a tile's width: ranks of any size take their own bytes.
///
/// Rows of DoRA (Liu et al., 2024) have a factor besides: y = m ⊙ (W·x + scale·B·A·x), m = magnitude / ‖W + scale·BA‖.
public final class LowRank: Sendable {
  /// How the factors are kept. Sums are f32 either way.
  public enum Element: Sendable {
    case f32, bf16
  }

  public let rank: Int
  public let columns: Int
  public let outputs: Int
  public let element: Element
  private let a: AlignedBuffer<UInt8>
  private let b: AlignedBuffer<UInt8>
  /// m and m − 1 for each output, padded to whole groups with 0.
  private let factors: (full: AlignedBuffer<Float>, lessOne: AlignedBuffer<Float>)?

  /// Bytes that a product reads.
  public var byteCount: Int {
    a.count + b.count + (factors == nil ? 0 : 2 * 4 * TileLayout.groups(outputs) * tileLanes)
  }

  /// - Parameters:
  ///   - a: [rank, columns], row-major
  ///   - b: [outputs, rank], row-major
  ///   - rowFactors: DoRA's m, [outputs]
  public init(
    a: [Float], b: [Float], rank: Int, columns: Int, outputs: Int, element: Element, rowFactors: [Float]? = nil
  ) {
    precondition(a.count == rank * columns && b.count == outputs * rank && rank > 0)
    precondition(rowFactors == nil || rowFactors?.count == outputs)
    self.rank = rank
    self.columns = columns
    self.outputs = outputs
    self.element = element
    let size = element == .bf16 ? 2 : 4
    // bf16 lies in pairs of columns or ranks.
    let (paddedColumns, paddedRank) = element == .bf16 ? ((columns + 1) / 2 * 2, (rank + 1) / 2 * 2) : (columns, rank)
    // The kernels may read a vector beyond a narrow group.
    self.a = AlignedBuffer(count: rank * paddedColumns * size + 64)
    self.b = AlignedBuffer(count: TileLayout.groups(outputs) * tileLanes * paddedRank * size)
    func put(_ value: Float, _ index: Int, _ buffer: AlignedBuffer<UInt8>) {
      let raw = UnsafeMutableRawPointer(buffer.pointer)
      if element == .bf16 {
        raw.storeBytes(of: Self.bf16(value), toByteOffset: index * 2, as: UInt16.self)
      } else {
        raw.storeBytes(of: value, toByteOffset: index * 4, as: Float.self)
      }
    }
    for r in 0..<rank {
      let first = r / tileLanes * tileLanes
      let (width, lane) = (min(rank - first, tileLanes), r - first)
      for c in 0..<columns {
        let place = element == .bf16 ? (c / 2 * width + lane) * 2 + c % 2 : c * width + lane
        put(a[r * columns + c], first * paddedColumns + place, self.a)
      }
    }
    for o in 0..<outputs {
      let (first, lane) = (o / tileLanes * paddedRank * tileLanes, o % tileLanes)
      for r in 0..<rank {
        let place = element == .bf16 ? (r / 2 * tileLanes + lane) * 2 + r % 2 : r * tileLanes + lane
        put(b[o * rank + r], first + place, self.b)
      }
    }
    factors = rowFactors.map { values in
      let count = TileLayout.groups(outputs) * tileLanes
      let (full, lessOne) = (AlignedBuffer<Float>(count: count), AlignedBuffer<Float>(count: count))
      for i in 0..<outputs {
        full.pointer[i] = values[i]
        lessOne.pointer[i] = values[i] - 1
      }
      return (full, lessOne)
    }
  }

  /// To nearest, ties to even.
  public static func bf16(_ value: Float) -> UInt16 {
    let bits = value.bitPattern
    if value.isNaN { return UInt16(bits >> 16) | 0x40 }
    return UInt16(truncatingIfNeeded: (bits &+ 0x7FFF &+ (bits >> 16 & 1)) >> 16)
  }

  var descriptor: graft_lora {
    graft_lora(a: a.pointer, b: b.pointer, columns: columns, rank: rank, is_bf16: element == .bf16 ? 1 : 0)
  }

  /// Of B, for 16 outputs.
  var bytesPerGroup: Int { b.count / TileLayout.groups(outputs) }
  var rowFactors: UnsafePointer<Float>? { factors.map { UnsafePointer($0.full.pointer) } }
  var rowFactorsLessOne: UnsafePointer<Float>? { factors.map { UnsafePointer($0.lessOne.pointer) } }
  /// Floats of a row of A·x, whole groups of ranks.
  var paddedRank: Int { TileLayout.groups(rank) * tileLanes }
}
