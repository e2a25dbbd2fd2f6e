import Formats
import Foundation

/// What prepared files begin with: 8 bytes of magic, the header's length and the format's version as little-endian u32,
/// the header as JSON, and its XXH3 in 32 hexadecimal digits.
struct PreparedFront {
  /// 8 bytes.
  let magic: String
  let version: Int
  /// What errors call a file of this kind.
  let kind: String

  /// Digits of a checksum.
  static let checksumLength = 32
  /// As many zeros, in the place of a checksum that is not known yet.
  static let blankChecksum = String(repeating: "0", count: checksumLength)
  private static let maxLength = 16 << 20

  func encode(_ header: some Encodable) throws -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let json = try encoder.encode(header)
    var front = Array(magic.utf8)
    withUnsafeBytes(of: UInt32(json.count).littleEndian) { front += $0 }
    withUnsafeBytes(of: UInt32(version).littleEndian) { front += $0 }
    front += json
    front += json.withUnsafeBytes { Array(Checksum.of($0).utf8) }
    return front
  }

  /// - Returns: the header, whose fields nobody has checked, and the front's length in bytes
  /// - Throws: `ModelError` naming the file, if it is of another kind or version, truncated or damaged
  func decode<Header: Decodable>(_: Header.Type, of file: MappedFile) throws -> (header: Header, length: Int) {
    func failure(_ reason: String) -> ModelError { ModelError(file.url.path, reason: reason) }
    let front = try file.bytes(offset: 0, count: min(16, file.count))
    guard front.count == 16, front.prefix(8).elementsEqual(magic.utf8) else { throw failure("not a prepared \(kind)") }
    let length = Int(UInt32(littleEndian: front.loadUnaligned(fromByteOffset: 8, as: UInt32.self)))
    let version = UInt32(littleEndian: front.loadUnaligned(fromByteOffset: 12, as: UInt32.self))
    guard version == self.version else {
      throw failure("prepared in format \(version), this program reads \(self.version); prepare it again")
    }
    let end = 16 + length + Self.checksumLength
    guard length <= Self.maxLength, end <= file.count else { throw failure("truncated in its header") }
    let text = try file.bytes(offset: 16, count: length)
    guard try file.bytes(offset: 16 + length, count: Self.checksumLength).elementsEqual(Checksum.of(text).utf8) else {
      throw failure("its header is damaged (its checksum differs); prepare it again")
    }
    do {
      return (try JSONDecoder().decode(Header.self, from: Data(text)), end)
    } catch is DecodingError {
      throw failure("its header is damaged; prepare it again")
    }
  }
}
