import CBusError
public import Foundation

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A regular file, mapped read-only and open for reading.
///
/// Touching a mapped page that was cut off the file later ends the process (SIGBUS, see `exitOnBusError`), so whoever
/// streams large tensors uses `read`, which throws instead; `bytes` is for files that this process owns.
public final class MappedFile: Sendable {
  public let url: URL
  /// Size in bytes when the file was opened.
  public let count: Int
  private let descriptor: Int32
  /// The bytes of a file that is not empty; they outlive this object, which keeps the file open besides.
  package let mapping: FileMapping?

  /// Throws `ModelError` naming the file, for a missing one, a folder, a device or a pipe, and for what Git leaves in the
  /// place of a large file that was not fetched.
  public init(_ url: URL) throws {
    self.url = url
    // O_NONBLOCK: opening a pipe must not wait for its writer.
    let descriptor = open(url.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw ModelError(url.path, reason: Self.describe(errno)) }
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      close(descriptor)
      throw ModelError(url.path, reason: "not a regular file")
    }
    let count = Int(status.st_size)
    do {
      mapping = count > 0 ? try FileMapping(descriptor: descriptor, count: count, path: url.path) : nil
    } catch {
      close(descriptor)
      throw error
    }
    self.descriptor = descriptor
    self.count = count
    if try isLFSPointer() {
      throw ModelError(name, reason: "is a Git LFS pointer, not the file itself; run git lfs pull in its repository")
    }
  }

  deinit { close(descriptor) }

  /// The name that errors give.
  public var name: String { url.lastPathComponent }

  /// Mapped bytes, valid only as long as this object lives, which the caller sees to.
  /// Throws `ModelError` if the range is not inside the file.
  public func bytes(offset: Int, count: Int) throws -> UnsafeRawBufferPointer {
    try check(offset: offset, count: count)
    return UnsafeRawBufferPointer(start: mapping.map { $0.start + offset }, count: count)
  }

  /// Copies bytes from `offset` on until `destination` is full.
  /// Throws `ModelError` if the range is not inside the file, or is no longer.
  public func read(offset: Int, into destination: UnsafeMutableRawBufferPointer) throws {
    try check(offset: offset, count: destination.count)
    var done = 0
    while done < destination.count {
      guard let start = destination.baseAddress else { return }
      let result = pread(descriptor, start + done, destination.count - done, off_t(offset + done))
      if result < 0 && errno == EINTR { continue }
      guard result >= 0 else { throw ModelError(name, reason: "cannot be read: \(Self.describe(errno))") }
      guard result > 0 else {
        throw ModelError(name, reason: "truncated: ends at byte \(offset + done) instead of \(self.count)")
      }
      done += result
    }
  }

  /// `read` into an array.
  public func read(offset: Int, count: Int) throws -> [UInt8] {
    try check(offset: offset, count: count)
    return try [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
      let bytes = UnsafeMutableRawBufferPointer(buffer)
      try read(offset: offset, into: UnsafeMutableRawBufferPointer(rebasing: bytes[..<count]))
      initialized = count
    }
  }

  /// A whole small file, such as a configuration. Throws `ModelError` if it has more than `limit` bytes.
  package static func contents(of url: URL, limit: Int) throws -> [UInt8] {
    let file = try MappedFile(url)
    guard file.count <= limit else {
      throw ModelError(file.name, reason: "\(file.count) bytes, more than the \(limit) allowed")
    }
    return try file.read(offset: 0, count: file.count)
  }

  /// Git LFS (its specification, version 1): a short text that begins with the version.
  private func isLFSPointer() throws -> Bool {
    let head = Array("version https://git-lfs.github.com/spec/".utf8)
    return try head.count...1024 ~= count && read(offset: 0, count: head.count) == head
  }

  private func check(offset: Int, count: Int) throws {
    guard offset >= 0, count >= 0, offset <= self.count, count <= self.count - offset else {
      throw ModelError(
        name, reason: "truncated: \(count) bytes wanted at byte \(offset), but the file has \(self.count)")
    }
  }

  /// From now on, reading mapped bytes of a file that was cut short ends the process with a line that names the file and
  /// exit code 1; without this it ends without a word. A program calls it once, at its start.
  public static func exitOnBusError() { graft_exit_on_bus_error() }

  package static func describe(_ code: Int32) -> String { String(cString: strerror(code)) }
}
