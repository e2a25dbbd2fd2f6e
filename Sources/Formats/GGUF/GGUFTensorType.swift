/// How a GGUF tensor is stored (the `ggml_type` codes). Those with a layout here can be read; others are only named.
public struct GGUFTensorType: Sendable, Equatable, CustomStringConvertible {
  public let code: UInt32

  public static let f32 = GGUFTensorType(code: 0)
  public static let f16 = GGUFTensorType(code: 1)
  public static let q4_0 = GGUFTensorType(code: 2)
  public static let q4_1 = GGUFTensorType(code: 3)
  public static let q5_0 = GGUFTensorType(code: 6)
  public static let q5_1 = GGUFTensorType(code: 7)
  public static let q8_0 = GGUFTensorType(code: 8)
  public static let q4K = GGUFTensorType(code: 12)
  public static let q5K = GGUFTensorType(code: 13)
  public static let q6K = GGUFTensorType(code: 14)
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
