import CBusError
public import Foundation

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A regular file, mapped read-only and open for reading.
///
/// If the file is made shorter while it is mapped, reading the pages that it lost ends the process (SIGBUS, see
/// `exitOnBusError`). So `bytes` is for files that only this program writes; other files are read with `read`, which throws
/// instead.
public final class MappedFile: Sendable {
  /// The path that the file was opened by.
  public let url: URL
  /// Size in bytes when the file was opened.
  public let count: Int
  private let descriptor: Int32
  /// The mapping, which can outlive this object; `nil` for an empty file.
  package let mapping: FileMapping?

  /// - Throws: `ModelError` naming the file, if it is missing, a folder, a device or a pipe, and if it is the pointer that
  ///   Git LFS leaves instead of a large file
  public init(_ url: URL) throws {
    self.url = url
    // O_NONBLOCK: opening a pipe must not wait for its writer.
    let descriptor = open(url.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw ModelError(url.path, reason: systemMessage(errno)) }
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

  /// Mapped bytes. The caller keeps this object, or its mapping, for as long as it uses them.
  /// - Throws: `ModelError` if the range is not inside the file
  public func bytes(offset: Int, count: Int) throws -> UnsafeRawBufferPointer {
    try check(offset: offset, count: count)
    return UnsafeRawBufferPointer(start: mapping.map { $0.start + offset }, count: count)
  }

  /// Copies bytes from `offset` on until `destination` is full.
  /// - Throws: `ModelError` if the range is not inside the file, or is no longer because the file was made shorter
  public func read(offset: Int, into destination: UnsafeMutableRawBufferPointer) throws {
    try check(offset: offset, count: destination.count)
    var done = 0
    while done < destination.count {
      guard let start = destination.baseAddress else { return }
      let result = pread(descriptor, start + done, destination.count - done, off_t(offset + done))
      if result < 0 && errno == EINTR { continue }
      guard result >= 0 else { throw ModelError(name, reason: "cannot be read: \(systemMessage(errno))") }
      guard result > 0 else {
        throw ModelError(name, reason: "truncated: ends at byte \(offset + done) instead of \(self.count)")
      }
      done += result
    }
  }

  /// `read` into a new array.
  /// - Throws: as `read`
  public func read(offset: Int, count: Int) throws -> [UInt8] {
    try check(offset: offset, count: count)
    return try [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
      let bytes = UnsafeMutableRawBufferPointer(buffer)
      try read(offset: offset, into: UnsafeMutableRawBufferPointer(rebasing: bytes[..<count]))
      initialized = count
    }
  }

  /// A whole small file, such as a configuration.
  /// - Throws: `ModelError` if the file cannot be read or has more than `limit` bytes
  package static func contents(of url: URL, limit: Int) throws -> [UInt8] {
    let file = try MappedFile(url)
    guard file.count <= limit else {
      throw ModelError(file.name, reason: "\(file.count) bytes, more than the \(limit) allowed")
    }
    return try file.read(offset: 0, count: file.count)
  }

  /// Whether the file is a Git LFS pointer (specification, version 1): a short text that begins with the version.
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

  /// Installs a handler for SIGBUS: if mapped bytes of a file that was made shorter are read, the process ends with exit code
  /// 1 and an error that names the file. A program calls this once, at its start.
  public static func exitOnBusError() { graft_exit_on_bus_error() }
}
