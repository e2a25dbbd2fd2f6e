import CKernels

/// An instruction set that the micro-kernels were compiled for.
public enum InstructionSet: String, CaseIterable, Sendable {
  case scalar, avx2, avx512
  /// AVX-512 with VNNI.
  case vnni

  fileprivate var level: graft_level {
    switch self {
    case .scalar: GRAFT_SCALAR
    case .avx2: GRAFT_AVX2
    case .avx512: GRAFT_AVX512
    case .vnni: GRAFT_VNNI
    }
  }
}

/// The micro-kernels of one instruction set.
///
/// `@unchecked Sendable`: it points to a constant table of functions without state.
public struct KernelSet: @unchecked Sendable {
  let table: UnsafePointer<graft_kernels>
  public let instructionSet: InstructionSet

  /// `nil` where this machine or this build has no such instructions.
  public init?(_ set: InstructionSet) {
    guard let table = graft_kernels_for(set.level) else { return nil }
    self.table = table
    instructionSet = set
  }

  /// The widest that this machine runs.
  public static let best: KernelSet = InstructionSet.allCases.reversed().lazy.compactMap { KernelSet($0) }.first!

  var functions: graft_kernels { table.pointee }
}

/// Rows of a weight matrix that lie side by side in a tile.
public let tileLanes = Int(GRAFT_LANES)
/// Positions in one block of the key-value cache.
public let keyValueBlockLength = Int(GRAFT_KV_BLOCK)
