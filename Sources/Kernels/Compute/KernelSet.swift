import CKernels

/// An instruction set that the kernels are compiled for. The raw value is its name on the command line.
public enum InstructionSet: String, CaseIterable, Sendable {
  /// Plain C with the arithmetic in which `amx` trains: the reference for its gradients.
  case tileReference = "tile-reference"
  /// Plain C without vector instructions: the reference.
  case scalar
  /// AVX2 with FMA and F16C.
  case avx2
  /// AVX-512 F, BW, VL and DQ.
  case avx512
  /// AVX-512 with VNNI.
  case vnni
  /// AMX's tile registers for products with the base's weights and attention of many rows, and for gradients; AVX-512 with
  /// VNNI for all else.
  case amx

  /// Whether this build has kernels for the set. The machine may still lack its instructions.
  public var isBuilt: Bool { graft_kernels_are_built(level) != 0 }

  fileprivate var level: graft_level {
    switch self {
    case .scalar: GRAFT_SCALAR
    case .avx2: GRAFT_AVX2
    case .avx512: GRAFT_AVX512
    case .vnni: GRAFT_VNNI
    case .amx: GRAFT_AMX
    case .tileReference: GRAFT_TILE_REFERENCE
    }
  }
}

/// The kernels of one instruction set. All sets give the same bits, except that `amx` and `tileReference` compute training's
/// gradients and LoRA products in bf16 in modes other than `f32`.
///
/// `@unchecked Sendable`: it points to a constant table of functions without state.
public struct KernelSet: @unchecked Sendable {
  private let table: UnsafePointer<graft_kernels>
  /// The instruction set that the kernels use.
  public let instructionSet: InstructionSet

  /// `nil` if this machine does not have the instructions, or if this build has no kernels for them.
  public init?(_ set: InstructionSet) {
    guard let table = graft_kernels_for(set.level) else { return nil }
    self.table = table
    instructionSet = set
  }

  /// The fastest set of this machine.
  public static let best: KernelSet = {
    for set in InstructionSet.allCases.reversed() {
      if let kernels = KernelSet(set) { return kernels }
    }
    preconditionFailure("every machine runs the scalar kernels")
  }()

  /// Whether the processor has AMX and the system does not let this process use it.
  public static var tileRegistersAreRefused: Bool { graft_tile_registers_are_refused() != 0 }

  /// The kernels of the forward pass.
  var forward: graft_forward_kernels { table.pointee.forward }
  /// The kernels of training.
  var training: graft_training_kernels { table.pointee.training }
}

/// Rows of a weight matrix that lie side by side in a tile, one in each vector lane.
public let tileLanes = Int(GRAFT_LANES)
/// Positions in one block of the key-value cache.
public let keyValueBlockLength = Int(GRAFT_KV_BLOCK)
