/// The rules for names of adapters.
public enum AdapterName {
  /// The maximum length of a name in bytes.
  public static let maxLength = 256

  /// Why an adapter cannot have a name; `nil` if it can.
  ///
  /// A name has 1 to 256 characters of `[A-Za-z0-9._/:-]`. It begins and ends with a letter or digit, has no empty, "." or
  /// ".." part between its slashes, is not "base", and does not end in a colon and a number.
  public static func problem(_ name: String) -> String? {
    guard !name.isEmpty else { return "it is empty" }
    guard name.utf8.count <= maxLength else { return "it has more than \(maxLength) characters" }
    if name == "base" { return "'base' always means the base" }
    guard name.utf8.allSatisfy({ isAlphanumeric($0) || "._/:-".utf8.contains($0) }) else {
      return "only letters, digits and . _ / : - are allowed"
    }
    guard let first = name.utf8.first, let last = name.utf8.last, isAlphanumeric(first), isAlphanumeric(last) else {
      return "it must begin and end with a letter or digit"
    }
    let parts = name.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.allSatisfy({ !["", ".", ".."].contains($0) }) else {
      return "no part of it between slashes may be empty, '.' or '..'"
    }
    // A request's `NAME:0.5` is a name with a scale.
    if let colon = name.lastIndex(of: ":"), isScale(name[name.index(after: colon)...]) {
      return "it must not end in ':' and a number, which would be read as a scale"
    }
    return nil
  }

  /// Whether `problem` finds nothing.
  public static func isValid(_ name: String) -> Bool { problem(name) == nil }

  /// Whether the text after a colon at the end of a name is a scale: a finite decimal.
  private static func isScale(_ text: Substring) -> Bool {
    text.utf8.allSatisfy { "0123456789+-.eE".utf8.contains($0) } && Double(text)?.isFinite == true
  }

  private static func isAlphanumeric(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"):
      true
    default: false
    }
  }
}
