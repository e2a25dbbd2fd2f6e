import COpenSSL
import CXXHash
public import Foundation

/// SHA-256 (FIPS 180-4), computed by OpenSSL. Files are named by it, even files that a stranger may have made.
public struct SHA256: ~Copyable {
  private let context = EVP_MD_CTX_new()

  /// A digest of no bytes yet.
  public init() { EVP_DigestInit_ex(context, EVP_sha256(), nil) }
  deinit { EVP_MD_CTX_free(context) }

  /// Adds bytes.
  public mutating func update(_ bytes: UnsafeRawBufferPointer) {
    EVP_DigestUpdate(context, bytes.baseAddress, bytes.count)
  }
  /// Adds the text's UTF-8.
  public mutating func update(_ text: String) {
    var text = text
    text.withUTF8 { update(UnsafeRawBufferPointer($0)) }
  }

  /// The digest as 64 hexadecimal digits. Nothing can be added afterwards.
  public mutating func finish() -> String {
    var digest = [UInt8](repeating: 0, count: 32)
    EVP_DigestFinal_ex(context, &digest, nil)
    return hexadecimal(digest)
  }

  /// The digest of a file's contents as 64 hexadecimal digits. Reads a few megabytes at a time.
  /// - Throws: the system's error if the file cannot be read
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

/// XXH3 with 128 bits (xxHash), as fast as memory is read. It detects accidental damage, but not deliberate changes.
package struct Checksum: ~Copyable {
  private let state = XXH3_createState()

  /// A checksum of no bytes yet.
  package init() { XXH3_128bits_reset(state) }
  deinit { XXH3_freeState(state) }

  /// Adds bytes.
  package mutating func update(_ bytes: UnsafeRawBufferPointer) {
    XXH3_128bits_update(state, bytes.baseAddress, bytes.count)
  }
  /// The checksum of all bytes so far as 32 hexadecimal digits.
  package func finish() -> String { Self.text(XXH3_128bits_digest(state)) }

  /// The checksum of some bytes as 32 hexadecimal digits.
  package static func of(_ bytes: UnsafeRawBufferPointer) -> String {
    text(XXH3_128bits(bytes.baseAddress, bytes.count))
  }

  private static func text(_ hash: XXH128_hash_t) -> String {
    hexadecimal(
      [hash.high64, hash.low64].flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> (56 - 8 * $0)) } })
  }
}

/// OpenSSL's version, as the library says.
public var openSSLVersion: String { String(cString: OpenSSL_version(OPENSSL_VERSION_STRING)) }

/// xxHash's version, as the library says.
public var xxHashVersion: String {
  let number = XXH_versionNumber()
  return "\(number / 10_000).\(number / 100 % 100).\(number % 100)"
}
