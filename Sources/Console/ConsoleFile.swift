/// One static file of the console.
public struct ConsoleFile: Sendable {
  /// Its name in URLs, without folders.
  public let name: String
  /// Its contents, which are UTF-8 text.
  public let bytes: [UInt8]
  /// The contents in the gzip format; `nil` if they are no smaller in it.
  public let compressed: [UInt8]?
  /// A strong HTTP entity tag: a hash of the contents in quotes.
  public let entityTag: String
  /// The entity tag of `compressed`. Strong tags must differ between forms of a file.
  public let compressedTag: String

  init(_ name: String, _ bytes: [UInt8]) {
    self.name = name
    self.bytes = bytes
    compressed = gzipped(bytes)
    let hash = String(Self.hash(bytes), radix: 16)
    entityTag = "\"\(hash)\""
    compressedTag = "\"\(hash)-gzip\""
  }

  /// The media type by the name's extension.
  public var contentType: String {
    switch name.split(separator: ".").last {
    case "html": "text/html; charset=utf-8"
    case "css": "text/css; charset=utf-8"
    default: "text/javascript; charset=utf-8"
    }
  }

  /// FNV-1a of 64 bits. It tells versions of a file apart, and need not withstand an attacker.
  private static func hash(_ bytes: [UInt8]) -> UInt64 {
    bytes.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
  }
}
