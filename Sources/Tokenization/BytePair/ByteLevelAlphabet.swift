/// The printable characters that stand for bytes in byte-level vocabularies (GPT-2's `bytes_to_unicode`). Visible Latin-1
/// characters stand for themselves; the other bytes are U+0100 and following, in order.
enum ByteLevelAlphabet {
  /// The scalar of each byte.
  static let scalars: [Unicode.Scalar] = {
    var next: UInt32 = 0x100
    return (UInt8.min...UInt8.max).map { byte in
      switch byte {
      case 0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF: return Unicode.Scalar(byte)
      default:
        defer { next += 1 }
        return Unicode.Scalar(next) ?? "\u{FFFD}"
      }
    }
  }()

  /// The byte of each scalar up to U+0143; −1 for a scalar that stands for none.
  private static let bytes: [Int16] = {
    var bytes = [Int16](repeating: -1, count: 0x144)
    for (byte, scalar) in scalars.enumerated() { bytes[Int(scalar.value)] = Int16(byte) }
    return bytes
  }()

  /// The text that stands for bytes.
  static func text(of bytes: [UInt8]) -> String {
    String(String.UnicodeScalarView(bytes.map { scalars[Int($0)] }))
  }

  /// The bytes that a token's text stands for; `nil` if one of its characters stands for none.
  static func bytes(of text: String) -> [UInt8]? {
    var result: [UInt8] = []
    result.reserveCapacity(text.utf8.count)
    for scalar in text.unicodeScalars {
      guard scalar.value < bytes.count, bytes[Int(scalar.value)] >= 0 else { return nil }
      result.append(UInt8(bytes[Int(scalar.value)]))
    }
    return result
  }
}

/// The byte that a SentencePiece byte token ("<0x0A>") stands for; `nil` for other tokens.
func sentencePieceByte(_ text: String) -> UInt8? {
  let bytes = Array(text.utf8)
  guard bytes.count == 6, text.hasPrefix("<0x"), bytes[5] == UInt8(ascii: ">") else { return nil }
  return UInt8(String(decoding: bytes[3..<5], as: UTF8.self), radix: 16)
}
