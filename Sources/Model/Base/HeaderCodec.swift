import Formats
import Foundation

/// Encodes and decodes the header that a prepared file begins with: 8 bytes of magic, the JSON's length and the format's
/// version as little-endian u32, the header as JSON, and the JSON's XXH3 in 32 hexadecimal digits.
struct HeaderCodec {
  /// 8 bytes.
  let magic: String
  let version: Int
  /// What errors call a file of this kind.
  let kind: String

  /// Digits of a checksum.
  static let checksumLength = 32
  /// Written where the checksum will be before it is computed. It is as long as a checksum, so the header keeps its length
  /// when the checksum replaces it.
  static let blankChecksum = String(repeating: "0", count: checksumLength)
  private static let maxLength = 16 << 20

  /// - Returns: the bytes that the file begins with
  func encode(_ header: some Encodable) throws -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let json = try encoder.encode(header)
    var bytes = Array(magic.utf8)
    withUnsafeBytes(of: UInt32(json.count).littleEndian) { bytes += $0 }
    withUnsafeBytes(of: UInt32(version).littleEndian) { bytes += $0 }
    bytes += json
    bytes += json.withUnsafeBytes { Array(Checksum.of($0).utf8) }
    return bytes
  }

  /// - Returns: the header, whose fields are not checked yet, and the length of its encoding in bytes
  /// - Throws: `ModelError` naming the file, if it is of another kind or version, truncated or damaged
  func decode<Header: Decodable>(_: Header.Type, of file: MappedFile) throws -> (header: Header, length: Int) {
    func failure(_ reason: String) -> ModelError { ModelError(file.url.path, reason: reason) }
    let start = try file.bytes(offset: 0, count: min(16, file.count))
    guard start.count == 16, start.prefix(8).elementsEqual(magic.utf8) else { throw failure("not a prepared \(kind)") }
    let length = Int(UInt32(littleEndian: start.loadUnaligned(fromByteOffset: 8, as: UInt32.self)))
    let version = UInt32(littleEndian: start.loadUnaligned(fromByteOffset: 12, as: UInt32.self))
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
