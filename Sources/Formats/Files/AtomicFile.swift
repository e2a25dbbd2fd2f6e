public import Foundation

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Writes a file that appears under its name whole or not at all, and that then survives a power loss. It is written under
/// a temporary name in the same folder, synced and renamed; then the folder is synced. Other users may read the file if
/// they may read its folder.
///
/// Without `finish`, deinit deletes what was written.
public final class AtomicFile {
  /// The name under which the file will appear.
  public let url: URL
  private let temporary: String
  private var descriptor: Int32
  private var isFinished = false

  /// - Throws: `ModelError` naming the path if the folder cannot be written to
  public init(_ url: URL) throws {
    self.url = url
    var template = Array(
      (url.deletingLastPathComponent().path + "/" + Self.temporaryPrefix(of: url) + "XXXXXX").utf8CString)
    descriptor = mkstemp(&template)
    guard descriptor >= 0 else { throw ModelError(url.path, reason: systemMessage(errno)) }
    temporary = template.withUnsafeBufferPointer { buffer in
      String(decoding: buffer.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
    _ = fchmod(descriptor, 0o600 | (0o044 & FolderAccess.bits(of: url.deletingLastPathComponent())))
  }

  deinit {
    if descriptor >= 0 { close(descriptor) }
    if !isFinished { unlink(temporary) }
  }

  /// How the temporary name of an unfinished file begins. A crash may leave such files.
  package static func temporaryPrefix(of url: URL) -> String { ".\(url.lastPathComponent)." }

  /// Appends bytes.
  /// - Throws: `ModelError` naming the path, for example if the disk is full
  public func write(_ bytes: UnsafeRawBufferPointer) throws {
    var done = 0
    while done < bytes.count, let start = bytes.baseAddress {
      #if canImport(Glibc)
        let result = Glibc.write(descriptor, start + done, bytes.count - done)
      #else
        let result = Darwin.write(descriptor, start + done, bytes.count - done)
      #endif
      if result < 0 && errno == EINTR { continue }
      guard result > 0 else { throw ModelError(url.path, reason: "cannot be written: \(systemMessage(errno))") }
      done += result
    }
  }

  /// Appends `count` zero bytes.
  /// - Throws: as `write` of bytes
  public func write(zeros count: Int) throws {
    try [UInt8](repeating: 0, count: count).withUnsafeBytes { try write($0) }
  }

  /// Replaces bytes that were written before, from `offset` on.
  /// - Throws: `ModelError` naming the path
  public func overwrite(offset: Int, _ bytes: UnsafeRawBufferPointer) throws {
    guard let start = bytes.baseAddress else { return }
    var done = 0
    while done < bytes.count {
      let result = pwrite(descriptor, start + done, bytes.count - done, off_t(offset + done))
      if result < 0 && errno == EINTR { continue }
      guard result > 0 else { throw failure() }
      done += result
    }
  }

  /// Makes the file durable and visible under its name, where it replaces an earlier file.
  /// - Throws: `ModelError` naming the path
  public func finish() throws {
    guard fsync(descriptor) == 0 else { throw failure() }
    let closed = close(descriptor)
    descriptor = -1
    guard closed == 0, rename(temporary, url.path) == 0 else { throw failure() }
    isFinished = true
    try FolderAccess.sync(url.deletingLastPathComponent())
  }

  /// Writes a small file whole.
  /// - Throws: `ModelError` naming the path
  public static func write(_ bytes: some ContiguousBytes, to url: URL) throws {
    let file = try AtomicFile(url)
    try bytes.withUnsafeBytes { try file.write($0) }
    try file.finish()
  }

  private func failure() -> ModelError {
    ModelError(url.path, reason: "cannot be written: \(systemMessage(errno))")
  }
}
