/// Finds the end of a JSON object or list in bytes that come one by one, by its brackets and strings alone.
struct BracketScanner {
  /// Brackets and braces that are open.
  private(set) var depth = 0
  private(set) var isInString = false
  private var isEscaped = false

  /// Whether all that was opened is closed.
  var isComplete: Bool { depth <= 0 && !isInString }

  /// Reads one byte.
  /// - Returns: false if it is no JSON: a string cannot contain a line break
  mutating func read(_ byte: UInt8) -> Bool {
    switch byte {
    case _ where isEscaped: isEscaped = false
    case ..<0x20 where isInString: return false
    case UInt8(ascii: "\\") where isInString: isEscaped = true
    case UInt8(ascii: "\""): isInString.toggle()
    case _ where isInString: break
    case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
    case UInt8(ascii: "}"), UInt8(ascii: "]"): depth -= 1
    default: break
    }
    return true
  }
}

extension UInt8 {
  /// Whether the byte is a space, a tab or a line break.
  var isSpace: Bool { self == 0x20 || (0x09...0x0D).contains(self) }
}
