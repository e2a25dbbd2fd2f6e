/// What adapters may be called.
public enum AdapterName {
  /// `[A-Za-z0-9._/:-]+`, up to 256 of them, not "base", and no end that reads as a scale.
  public static func isValid(_ name: String) -> Bool {
    guard (1...256).contains(name.utf8.count), name != "base" else { return false }
    let allowed = name.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"):
        true
      default: "._/:-".utf8.contains(byte)
      }
    }
    guard allowed else { return false }
    // A name that ends in a colon and a finite decimal could not be told from a name with a scale.
    guard let colon = name.lastIndex(of: ":") else { return true }
    let end = name[name.index(after: colon)...]
    return !(end.utf8.allSatisfy { "0123456789+-.eE".utf8.contains($0) } && Double(end)?.isFinite == true)
  }
}
