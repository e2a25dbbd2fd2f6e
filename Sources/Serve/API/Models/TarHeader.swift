/// The header of a file in a tar archive: ustar (POSIX.1-1988), with a pax header (POSIX.1-2001) before it if the name or the
/// size does not fit.
enum TarHeader {
  static let blockSize = 512
  /// The end of an archive.
  static let end = [UInt8](repeating: 0, count: 2 * blockSize)

  private static let maximumName = 100
  private static let maximumPrefix = 155
  /// The largest number of eleven octal digits.
  private static let maximumSize = 0o77_777_777_777

  /// The header's bytes.
  /// - Parameters:
  ///   - size: bytes of the file
  ///   - time: the file's last change, in seconds since 1970
  static func encode(name: String, size: Int, time: Int) -> [UInt8] {
    var records = ""
    let parts = split(name)
    if parts == nil { records += record("path", name) }
    if size > maximumSize { records += record("size", "\(size)") }
    var bytes: [UInt8] = []
    if !records.isEmpty {
      let text = Array(records.utf8)
      bytes += block(name: "PaxHeaders/file", prefix: "", size: text.count, time: time, type: "x") + text
      bytes += padding(after: text.count)
    }
    let (prefix, rest) = parts ?? ("", String(name.suffix(maximumName)))
    return bytes + block(name: rest, prefix: prefix, size: min(size, maximumSize), time: time, type: "0")
  }

  /// Zeros that fill a file's last block.
  static func padding(after size: Int) -> [UInt8] {
    [UInt8](repeating: 0, count: (blockSize - size % blockSize) % blockSize)
  }

  /// A name in ustar's two fields: whole in the second, or split at a slash; `nil` if it does not fit.
  private static func split(_ name: String) -> (prefix: String, name: String)? {
    if name.utf8.count <= maximumName { return ("", name) }
    for slash in name.indices where name[slash] == "/" {
      let (prefix, rest) = (name[..<slash], name[name.index(after: slash)...])
      if prefix.utf8.count <= maximumPrefix, (1...maximumName).contains(rest.utf8.count) {
        return (String(prefix), String(rest))
      }
    }
    return nil
  }

  /// "LENGTH KEY=VALUE\n", where the length counts itself.
  private static func record(_ key: String, _ value: String) -> String {
    let rest = " \(key)=\(value)\n"
    var length = rest.utf8.count
    while "\(length)".utf8.count + rest.utf8.count != length { length = "\(length)".utf8.count + rest.utf8.count }
    return "\(length)\(rest)"
  }

  private static func block(name: String, prefix: String, size: Int, time: Int, type: Character) -> [UInt8] {
    var block = [UInt8](repeating: 0, count: blockSize)
    func put(_ text: String, at offset: Int) {
      for (index, byte) in text.utf8.enumerated() { block[offset + index] = byte }
    }
    func octal(_ value: Int, digits: Int) -> String {
      let text = String(max(value, 0), radix: 8)
      return String(repeating: "0", count: max(digits - text.count, 0)) + text
    }
    put(name, at: 0)
    put(octal(0o644, digits: 7), at: 100)
    put(octal(0, digits: 7), at: 108)
    put(octal(0, digits: 7), at: 116)
    put(octal(size, digits: 11), at: 124)
    put(octal(time, digits: 11), at: 136)
    put("        ", at: 148)
    put(String(type), at: 156)
    put("ustar\u{0}00", at: 257)
    put(prefix, at: 345)
    put(octal(block.reduce(0) { $0 + Int($1) }, digits: 6) + "\u{0} ", at: 148)
    return block
  }
}
