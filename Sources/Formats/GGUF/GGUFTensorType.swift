/// The number format of a GGUF tensor (`ggml_type`). Formats that have a `block` can be read; others are only named.
public struct GGUFTensorType: Sendable, Equatable, CustomStringConvertible {
  /// The `ggml_type`.
  public let code: UInt32

  /// IEEE 754 single precision.
  public static let f32 = GGUFTensorType(code: 0)
  /// IEEE 754 half precision.
  public static let f16 = GGUFTensorType(code: 1)
  /// Blocks of 32: 4 bits and a scale.
  public static let q4_0 = GGUFTensorType(code: 2)
  /// Blocks of 32: 4 bits, a scale and a minimum.
  public static let q4_1 = GGUFTensorType(code: 3)
  /// Blocks of 32: 5 bits and a scale.
  public static let q5_0 = GGUFTensorType(code: 6)
  /// Blocks of 32: 5 bits, a scale and a minimum.
  public static let q5_1 = GGUFTensorType(code: 7)
  /// Blocks of 32: 8 bits and a scale.
  public static let q8_0 = GGUFTensorType(code: 8)
  /// Blocks of 256: 4 bits, a scale and a minimum for each 32.
  public static let q4K = GGUFTensorType(code: 12)
  /// Blocks of 256: 5 bits, a scale and a minimum for each 32.
  public static let q5K = GGUFTensorType(code: 13)
  /// Blocks of 256: 6 bits and a scale for each 16.
  public static let q6K = GGUFTensorType(code: 14)
  /// The upper half of single precision.
  public static let bf16 = GGUFTensorType(code: 30)

  /// Elements and bytes of a block; `nil` for a type that cannot be read.
  public var block: (elements: Int, bytes: Int)? {
    switch self {
    case .f32: (1, 4)
    case .f16, .bf16: (1, 2)
    case .q4_0: (32, 18)
    case .q4_1: (32, 20)
    case .q5_0: (32, 22)
    case .q5_1: (32, 24)
    case .q8_0: (32, 34)
    case .q4K: (256, 144)
    case .q5K: (256, 176)
    case .q6K: (256, 210)
    default: nil
    }
  }

  /// "Q4_K", or the bare number of a type that has no name here.
  public var description: String { Self.names[code] ?? "type \(code)" }

  private static let names: [UInt32: String] = [
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K",
    12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S",
    20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64",
    29: "IQ1_M", 30: "BF16", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4", 41: "Q1_0",
  ]
}
