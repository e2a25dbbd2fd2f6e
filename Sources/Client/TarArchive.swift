public import Foundation

/// Reads the tar archives (ustar with pax headers) in which the server sends an adapter's files.
public enum TarArchive {
  private static let blockSize = 512

  /// The regular files, each with the last part of its path alone, so that no archive can name a place elsewhere.
  /// - Throws: `ClientError` for an archive that is cut short or malformed
  public static func files(of archive: Data) throws(ClientError) -> [(name: String, data: Data)] {
    let bytes = [UInt8](archive)
    var files: [(name: String, data: Data)] = []
    var offset = 0
    var pax: [String: String] = [:]
    while offset + blockSize <= bytes.count {
      let header = bytes[offset..<offset + blockSize]
      if header.allSatisfy({ $0 == 0 }) { return files }
      guard let size = pax["size"].flatMap({ Int($0) }) ?? Int(text(header, 124, 12), radix: 8), size >= 0,
        size <= bytes.count - offset - blockSize
      else { throw ClientError("the adapter's archive is cut short or malformed; try again") }
      let start = offset + blockSize
      let contents = bytes[start..<start + size]
      offset = start + (size + blockSize - 1) / blockSize * blockSize
      switch header[header.startIndex + 156] {
      case UInt8(ascii: "x"): pax = records(contents)
      case UInt8(ascii: "0"), 0:
        let path = pax["path"] ?? text(header, 0, 100)
        let name = path.split(separator: "/").last.map(String.init) ?? ""
        guard !name.isEmpty, name != ".", name != ".." else {
          throw ClientError("the archive has a file without a name")
        }
        files.append((name, Data(contents)))
        pax = [:]
      default: pax = [:]
      }
    }
    throw ClientError("the adapter's archive is cut short or malformed; try again")
  }

  /// A field of a header, up to its first zero or space.
  private static func text(_ header: ArraySlice<UInt8>, _ offset: Int, _ length: Int) -> String {
    let field = header[header.startIndex + offset..<header.startIndex + offset + length]
    return String(decoding: field.prefix { $0 != 0 }, as: UTF8.self).trimmingCharacters(in: .whitespaces)
  }

  /// The records "LENGTH KEY=VALUE\n" of a pax header.
  private static func records(_ contents: ArraySlice<UInt8>) -> [String: String] {
    var records: [String: String] = [:]
    var rest = contents
    while let space = rest.firstIndex(of: 0x20), let length = Int(String(decoding: rest[..<space], as: UTF8.self)),
      length > space - rest.startIndex + 1, length <= rest.count
    {
      let record = String(decoding: rest[(space + 1)..<(rest.startIndex + length - 1)], as: UTF8.self)
      if let equals = record.firstIndex(of: "=") {
        records[String(record[..<equals])] = String(record[record.index(after: equals)...])
      }
      rest = rest.dropFirst(length)
    }
    return records
  }
}
