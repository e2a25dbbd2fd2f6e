import COpenSSL
import CXXHash
public import Foundation

/// SHA-256 (FIPS 180-4), through OpenSSL: names contents that strangers may have made.
public struct SHA256: ~Copyable {
  private let context = EVP_MD_CTX_new()

  public init() { EVP_DigestInit_ex(context, EVP_sha256(), nil) }
  deinit { EVP_MD_CTX_free(context) }

  public mutating func update(_ bytes: UnsafeRawBufferPointer) {
    EVP_DigestUpdate(context, bytes.baseAddress, bytes.count)
  }
  public mutating func update(_ text: String) {
    var text = text
    text.withUTF8 { update(UnsafeRawBufferPointer($0)) }
  }

  /// 64 hexadecimal digits; nothing can be added after.
  public mutating func finish() -> String {
    var digest = [UInt8](repeating: 0, count: 32)
    EVP_DigestFinal_ex(context, &digest, nil)
    return hexadecimal(digest)
  }

  /// Of a file's contents, read in pieces.
  public static func of(file: URL) throws -> String {
    var hash = SHA256()
    let handle = try FileHandle(forReadingFrom: file)
    defer { try? handle.close() }
    while let piece = try handle.read(upToCount: 4 << 20), !piece.isEmpty {
      piece.withUnsafeBytes { hash.update($0) }
    }
    return hash.finish()
  }
}

/// XXH3, 128 bits: finds damage at memory speed, no defence against malice.
package struct Checksum: ~Copyable {
  private let state = XXH3_createState()

  package init() { XXH3_128bits_reset(state) }
  deinit { XXH3_freeState(state) }

  package mutating func update(_ bytes: UnsafeRawBufferPointer) {
    XXH3_128bits_update(state, bytes.baseAddress, bytes.count)
  }
  package func finish() -> String { Self.text(XXH3_128bits_digest(state)) }

  package static func of(_ bytes: UnsafeRawBufferPointer) -> String {
    text(XXH3_128bits(bytes.baseAddress, bytes.count))
  }

  private static func text(_ hash: XXH128_hash_t) -> String {
    hexadecimal(
      [hash.high64, hash.low64].flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> (56 - 8 * $0)) } })
  }
}
