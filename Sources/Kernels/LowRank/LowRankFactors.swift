import CKernels

/// The factors A, [rank, columns], and B, [outputs, rank], of a LoRA module (Hu et al., 2021), in the kernels' layout.
///
/// DoRA (Liu et al., 2024) has a factor m for each output besides: y = m ⊙ (W·x + scale·B·A·x), where
/// m = magnitude / ‖W + scale·B·A‖. Factors of zeros with an m alone scale the outputs.
///
/// `@unchecked Sendable`: the memory that the pointers lead to is never written, and `owner` keeps it alive.
public final class LowRankFactors: @unchecked Sendable {
  /// The element type of A and B. Products are summed in f32 either way.
  public enum Element: String, Sendable {
    /// 32-bit floats.
    case f32
    /// The upper half of a 32-bit float.
    case bf16
  }

  /// The factors' sizes and where they are in memory.
  public let layout: LowRankLayout
  let a: UnsafeRawPointer
  let b: UnsafeRawPointer
  /// m for each output, then m − 1 for each output; both padded with zeros to whole groups.
  let rowFactors: UnsafePointer<Float>?
  /// What is added to each output, padded with zeros to whole groups.
  let bias: UnsafePointer<Float>?
  /// What is added to 1 to give the factor of each column of the input, [columns]; `nil` leaves the input as it is.
  public let inputChanges: UnsafePointer<Float>?
  private let owner: any AnyObject & Sendable

  /// Rows of A, columns of B.
  public var rank: Int { layout.rank }
  /// Rows of B.
  public var outputs: Int { layout.outputs }

  /// Bytes that one product reads.
  public var byteCount: Int {
    layout.aBytes + layout.bBytes + (rowFactors == nil ? 0 : layout.rowFactorBytes)
      + (bias == nil ? 0 : layout.biasBytes) + (inputChanges == nil ? 0 : layout.inputChangeBytes)
  }

  /// Factors that are already in memory, packed as `layout` says.
  /// - Parameters:
  ///   - a: `layout.aBytes` bytes
  ///   - b: `layout.bBytes` bytes
  ///   - rowFactors: DoRA's, `layout.rowFactorBytes` bytes, aligned to 4
  ///   - bias: `layout.biasBytes` bytes, aligned to 4
  ///   - inputChanges: `layout.inputChangeBytes` bytes, aligned to 4
  ///   - owner: keeps the memory alive and unchanged
  public init(
    _ layout: LowRankLayout, a: UnsafeRawPointer, b: UnsafeRawPointer, rowFactors: UnsafeRawPointer?,
    bias: UnsafeRawPointer? = nil, inputChanges: UnsafeRawPointer? = nil, owner: any AnyObject & Sendable
  ) {
    self.layout = layout
    self.a = a
    self.b = b
    self.rowFactors = rowFactors?.assumingMemoryBound(to: Float.self)
    self.bias = bias?.assumingMemoryBound(to: Float.self)
    self.inputChanges = inputChanges?.assumingMemoryBound(to: Float.self)
    self.owner = owner
  }

  /// Factors copied from row-major order.
  /// - Parameters:
  ///   - a: [rank][columns]
  ///   - b: [outputs][rank]
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
    layout.packA(a, into: start)
    layout.packB(b, into: start + bOffset)
    if let rowFactors { layout.packRowFactors(rowFactors, into: start + factorOffset) }
    let factorStart = rowFactors == nil ? nil : UnsafeRawPointer(start + factorOffset)
    self.init(layout, a: start, b: start + bOffset, rowFactors: factorStart, owner: memory)
  }

  /// The bits of a float rounded to bf16: to nearest, with ties to even. NaN stays NaN.
  @inline(__always)
  public static func bf16(_ value: Float) -> UInt16 {
    let bits = value.bitPattern
    let rounded = UInt16(truncatingIfNeeded: (bits &+ 0x7FFF &+ (bits >> 16 & 1)) >> 16)
    return value.isNaN ? UInt16(truncatingIfNeeded: bits >> 16) | 0x40 : rounded
  }

  var descriptor: graft_lora {
    graft_lora(a: a, b: b, columns: layout.columns, rank: rank, is_bf16: layout.element == .bf16 ? 1 : 0)
  }

  /// Bytes of B for a group of 16 outputs.
  var bytesPerGroup: Int { layout.bytesPerGroup }
  var rowFactorsMinusOne: UnsafePointer<Float>? { rowFactors.map { $0 + layout.rowFactorCount } }
  /// Floats of a row of x · Aᵀ: the rank, rounded up to whole groups of 16.
  var paddedRank: Int { TileLayout.groups(rank) * tileLanes }
}
