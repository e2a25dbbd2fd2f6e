/// A field value with parameters, `value; name=token; name="quoted"` (RFC 9110, section 5.6.6), such as that of
/// Content-Type or Content-Disposition.
struct HeaderParameters: Equatable {
  /// The value, in lower case.
  var value: String
  /// The parameters by name, which is in lower case.
  var parameters: [String: String]

  /// `nil` for text that is not of that form or has a parameter twice.
  init?(_ text: String) {
    var scanner = Scanner(bytes: Array(text.utf8)[...])
    guard let value = scanner.take(while: { $0 != UInt8(ascii: ";") }).map(trimmedOptionalSpace), !value.isEmpty
    else { return nil }
    self.value = value.lowercased()
    parameters = [:]
    while scanner.skip(UInt8(ascii: ";")) {
      scanner.skipSpace()
      if scanner.isAtEnd { break }
      guard let name = scanner.take(while: isToken)?.lowercased(), !name.isEmpty,
        scanner.skip(UInt8(ascii: "=")), let value = scanner.parameterValue(), parameters[name] == nil
      else { return nil }
      parameters[name] = value
      scanner.skipSpace()
    }
    guard scanner.isAtEnd else { return nil }
  }

  private struct Scanner {
    var bytes: ArraySlice<UInt8>

    var isAtEnd: Bool { bytes.isEmpty }

    mutating func skip(_ byte: UInt8) -> Bool {
      guard bytes.first == byte else { return false }
      bytes.removeFirst()
      return true
    }

    mutating func skipSpace() { bytes = bytes.drop { $0 == 0x20 || $0 == 0x09 } }

    /// `nil` if it is not UTF-8.
    mutating func take(while isWanted: (UInt8) -> Bool) -> String? {
      let taken = bytes.prefix(while: isWanted)
      bytes = bytes[taken.endIndex...]
      return String(validating: taken, as: UTF8.self)
    }

    /// A token or a quoted string. A backslash escapes only a quote or a backslash, since some clients send paths.
    mutating func parameterValue() -> String? {
      guard skip(UInt8(ascii: "\"")) else {
        return take(while: isToken).flatMap { $0.isEmpty ? nil : $0 }
      }
      var text: [UInt8] = []
      while let byte = bytes.popFirst() {
        if byte == UInt8(ascii: "\"") { return String(validating: text, as: UTF8.self) }
        if byte == UInt8(ascii: "\\"), let next = bytes.first, next == UInt8(ascii: "\"") || next == byte {
          text.append(next)
          bytes.removeFirst()
        } else {
          text.append(byte)
        }
      }
      return nil
    }
  }
}
