import CKernels

/// The two factors of a LoRA module (Hu et al., 2021) in the kernels' layout.
///
/// Rows of DoRA (Liu et al., 2024) have a factor besides: y = m ⊙ (W·x + scale·B·A·x), m = magnitude / ‖W + scale·BA‖.
///
/// `@unchecked Sendable`: what the pointers lead to is never written, and `owner` keeps it.
public final class LowRank: @unchecked Sendable {
  /// How the factors are kept. Sums are f32 either way.
  public enum Element: String, Sendable {
    case f32, bf16
  }

  public let layout: LowRankLayout
  let a: UnsafeRawPointer
  let b: UnsafeRawPointer
  /// m for each output, then m − 1, each padded to whole groups with 0.
  let rowFactors: UnsafePointer<Float>?
  private let owner: any AnyObject & Sendable

  public var rank: Int { layout.rank }
  public var outputs: Int { layout.outputs }

  /// Bytes that a product reads.
  public var byteCount: Int {
    layout.aBytes + layout.bBytes + (rowFactors == nil ? 0 : layout.rowFactorBytes)
  }

  /// Factors that lie in memory already, as `layout` puts them there.
  /// - Parameters:
  ///   - a: `layout.aBytes` bytes
  ///   - b: `layout.bBytes` bytes
  ///   - rowFactors: of DoRA, `layout.rowFactorBytes` bytes, on a multiple of 4
  ///   - owner: keeps all of them in place and unchanged
  public init(
    _ layout: LowRankLayout, a: UnsafeRawPointer, b: UnsafeRawPointer, rowFactors: UnsafeRawPointer?,
    owner: any AnyObject & Sendable
  ) {
    self.layout = layout
    self.a = a
    self.b = b
    self.rowFactors = rowFactors?.assumingMemoryBound(to: Float.self)
    self.owner = owner
  }

  /// - Parameters:
  ///   - a: [rank, columns], row-major
  ///   - b: [outputs, rank], row-major
  ///   - rowFactors: DoRA's m, [outputs]
  public convenience init(
    a: [Float], b: [Float], rank: Int, columns: Int, outputs: Int, element: Element, rowFactors: [Float]? = nil
  ) {
    precondition(a.count == rank * columns && b.count == outputs * rank)
    precondition(rowFactors == nil || rowFactors?.count == outputs)
    let layout = LowRankLayout(rank: rank, columns: columns, outputs: outputs, element: element)
    let bOffset = LowRankLayout.aligned(layout.aBytes)
    let factorOffset = LowRankLayout.aligned(bOffset + layout.bBytes)
    let memory = AlignedBuffer<UInt8>(count: factorOffset + (rowFactors == nil ? 0 : layout.rowFactorBytes))
    let start = UnsafeMutableRawPointer(memory.pointer)
    layout.putA(a, into: start)
    layout.putB(b, into: start + bOffset)
    if let rowFactors { layout.putRowFactors(rowFactors, into: start + factorOffset) }
    let factorStart = rowFactors == nil ? nil : UnsafeRawPointer(start + factorOffset)
    self.init(layout, a: start, b: start + bOffset, rowFactors: factorStart, owner: memory)
  }

  /// To nearest, ties to even.
  @inline(__always)
  public static func bf16(_ value: Float) -> UInt16 {
    let bits = value.bitPattern
    let rounded = UInt16(truncatingIfNeeded: (bits &+ 0x7FFF &+ (bits >> 16 & 1)) >> 16)
    return value.isNaN ? UInt16(truncatingIfNeeded: bits >> 16) | 0x40 : rounded
  }

  var descriptor: graft_lora {
    graft_lora(a: a, b: b, columns: layout.columns, rank: rank, is_bf16: layout.element == .bf16 ? 1 : 0)
  }

  /// Of B, for 16 outputs.
  var bytesPerGroup: Int { layout.bytesPerGroup }
  var rowFactorsLessOne: UnsafePointer<Float>? { rowFactors.map { $0 + layout.rowFactorCount } }
  /// Floats of a row of A·x, whole groups of ranks.
  var paddedRank: Int { TileLayout.groups(rank) * tileLanes }
}
