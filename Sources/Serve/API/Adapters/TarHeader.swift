/// The header of a regular file in a tar archive: ustar (POSIX.1-1988), with one of pax (POSIX.1-2001) before it where a
/// name or size does not fit.
enum TarHeader {
  static let blockSize = 512
  /// What ends an archive.
  static let end = [UInt8](repeating: 0, count: 2 * blockSize)

  private static let longestName = 100
  private static let longestPrefix = 155
  /// What eleven octal digits can say.
  private static let largestSize = 0o77_777_777_777

  /// - Parameters:
  ///   - size: bytes of the file
  ///   - time: its last change, in seconds since 1970
  static func encode(name: String, size: Int, time: Int) -> [UInt8] {
    var records = ""
    let parts = split(name)
    if parts == nil { records += record("path", name) }
    if size > largestSize { records += record("size", "\(size)") }
    var bytes: [UInt8] = []
    if !records.isEmpty {
      let text = Array(records.utf8)
      bytes += block(name: "PaxHeaders/file", prefix: "", size: text.count, time: time, type: "x") + text
      bytes += padding(after: text.count)
    }
    let (prefix, rest) = parts ?? ("", String(name.suffix(longestName)))
    return bytes + block(name: rest, prefix: prefix, size: min(size, largestSize), time: time, type: "0")
  }

  /// Zeros that fill a file's last block.
  static func padding(after size: Int) -> [UInt8] {
    [UInt8](repeating: 0, count: (blockSize - size % blockSize) % blockSize)
  }

  /// A name as ustar has it: whole, or cut at a slash.
  private static func split(_ name: String) -> (prefix: String, name: String)? {
    if name.utf8.count <= longestName { return ("", name) }
    for slash in name.indices where name[slash] == "/" {
      let (prefix, rest) = (name[..<slash], name[name.index(after: slash)...])
      if prefix.utf8.count <= longestPrefix, (1...longestName).contains(rest.utf8.count) {
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
