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
  /// Blocks of 256: 2 bits, a scale and a minimum for each 16.
  public static let q2K = GGUFTensorType(code: 10)
  /// Blocks of 256: 3 bits and a scale for each 16.
  public static let q3K = GGUFTensorType(code: 11)
  /// Blocks of 256: 4 bits, a scale and a minimum for each 32.
  public static let q4K = GGUFTensorType(code: 12)
  /// Blocks of 256: 5 bits, a scale and a minimum for each 32.
  public static let q5K = GGUFTensorType(code: 13)
  /// Blocks of 256: 6 bits and a scale for each 16.
  public static let q6K = GGUFTensorType(code: 14)
  /// Blocks of 256: points of a grid of 256, signs, a scale for each 32.
  public static let iq2XXS = GGUFTensorType(code: 16)
  /// Blocks of 256: points of a grid of 512, signs, a scale for each 16.
  public static let iq2XS = GGUFTensorType(code: 17)
  /// Blocks of 256: points of a grid of 256, signs, a scale for each 32.
  public static let iq3XXS = GGUFTensorType(code: 18)
  /// Blocks of 256: points of a grid of 2048, a scale and a shift for each 32.
  public static let iq1S = GGUFTensorType(code: 19)
  /// Blocks of 32: 4 bits that are indices of 16 uneven values, and a scale.
  public static let iq4NL = GGUFTensorType(code: 20)
  /// Blocks of 256: points of a grid of 512, signs, a scale for each 32.
  public static let iq3S = GGUFTensorType(code: 21)
  /// Blocks of 256: points of a grid of 1024, signs, a scale for each 16.
  public static let iq2S = GGUFTensorType(code: 22)
  /// Blocks of 256: 4 bits as in IQ4_NL, a scale for each 32.
  public static let iq4XS = GGUFTensorType(code: 23)
  /// Signed 8-bit integers.
  public static let i8 = GGUFTensorType(code: 24)
  /// Signed 16-bit integers.
  public static let i16 = GGUFTensorType(code: 25)
  /// Signed 32-bit integers.
  public static let i32 = GGUFTensorType(code: 26)
  /// Signed 64-bit integers.
  public static let i64 = GGUFTensorType(code: 27)
  /// IEEE 754 double precision.
  public static let f64 = GGUFTensorType(code: 28)
  /// Blocks of 256: points of a grid of 2048, a scale for each 16, a shift for each 8.
  public static let iq1M = GGUFTensorType(code: 29)
  /// The upper half of single precision.
  public static let bf16 = GGUFTensorType(code: 30)
  /// Blocks of 256: -1, 0 or 1, five to a byte, and a scale.
  public static let tq1_0 = GGUFTensorType(code: 34)
  /// Blocks of 256: -1, 0 or 1, four to a byte, and a scale.
  public static let tq2_0 = GGUFTensorType(code: 35)
  /// Blocks of 32: 4-bit floats and a power of two.
  public static let mxfp4 = GGUFTensorType(code: 39)
  /// Blocks of 64: 4-bit floats and an 8-bit float for each 16.
  public static let nvfp4 = GGUFTensorType(code: 40)

  private struct Kind {
    let name: String
    /// `nil` for a type that cannot be read.
    var block: (elements: Int, bytes: Int)?
  }

  private static let kinds: [UInt32: Kind] = [
    0: Kind(name: "F32", block: (1, 4)), 1: Kind(name: "F16", block: (1, 2)), 2: Kind(name: "Q4_0", block: (32, 18)),
    3: Kind(name: "Q4_1", block: (32, 20)), 6: Kind(name: "Q5_0", block: (32, 22)),
    7: Kind(name: "Q5_1", block: (32, 24)), 8: Kind(name: "Q8_0", block: (32, 34)), 9: Kind(name: "Q8_1"),
    10: Kind(name: "Q2_K", block: (256, 84)), 11: Kind(name: "Q3_K", block: (256, 110)),
    12: Kind(name: "Q4_K", block: (256, 144)), 13: Kind(name: "Q5_K", block: (256, 176)),
    14: Kind(name: "Q6_K", block: (256, 210)), 15: Kind(name: "Q8_K"), 16: Kind(name: "IQ2_XXS", block: (256, 66)),
    17: Kind(name: "IQ2_XS", block: (256, 74)), 18: Kind(name: "IQ3_XXS", block: (256, 98)),
    19: Kind(name: "IQ1_S", block: (256, 50)), 20: Kind(name: "IQ4_NL", block: (32, 18)),
    21: Kind(name: "IQ3_S", block: (256, 110)), 22: Kind(name: "IQ2_S", block: (256, 82)),
    23: Kind(name: "IQ4_XS", block: (256, 136)), 24: Kind(name: "I8", block: (1, 1)),
    25: Kind(name: "I16", block: (1, 2)), 26: Kind(name: "I32", block: (1, 4)), 27: Kind(name: "I64", block: (1, 8)),
    28: Kind(name: "F64", block: (1, 8)), 29: Kind(name: "IQ1_M", block: (256, 56)),
    30: Kind(name: "BF16", block: (1, 2)), 34: Kind(name: "TQ1_0", block: (256, 54)),
    35: Kind(name: "TQ2_0", block: (256, 66)), 39: Kind(name: "MXFP4", block: (32, 17)),
    40: Kind(name: "NVFP4", block: (64, 36)), 41: Kind(name: "Q1_0"),
  ]

  /// Elements and bytes of a block; `nil` for a type that cannot be read.
  public var block: (elements: Int, bytes: Int)? { Self.kinds[code]?.block }

  /// "Q4_K", or the bare number of a type that has no name here.
  public var description: String { Self.kinds[code]?.name ?? "type \(code)" }
}
