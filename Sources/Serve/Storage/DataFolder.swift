public import Foundation
internal import Glibc
internal import Model

/// The folder with everything that outlives the process, held by one process at a time: by a lock that the system lets
/// go of when the process ends, however it ends.
public final class DataFolder: Sendable {
  public let url: URL
  private let descriptor: Int32

  /// Makes the folder if it is missing, and takes its lock.
  /// - Throws: `ModelError` naming the folder, and the process that holds it
  public init(_ url: URL) throws {
    self.url = url.standardizedFileURL
    do {
      try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    } catch {
      throw ModelError(url.path, reason: "cannot be created: \(error.localizedDescription)")
    }
    let file = url.appending(path: "lock").path
    descriptor = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw ModelError(file, reason: systemMessage(errno)) }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      let code = errno
      // The initialiser's failure runs no deinit.
      defer { close(descriptor) }
      guard code == EWOULDBLOCK else { throw ModelError(file, reason: "cannot be locked: \(systemMessage(code))") }
      throw ModelError(url.path, reason: "is in use by \(Self.holder(descriptor))")
    }
    let text = Array("\(getpid())\n".utf8)
    guard ftruncate(descriptor, 0) == 0, pwrite(descriptor, text, text.count, 0) == text.count else {
      let code = errno
      close(descriptor)
      throw ModelError(file, reason: "cannot be written: \(systemMessage(code))")
    }
  }

  deinit { close(descriptor) }

  private static func holder(_ descriptor: Int32) -> String {
    var bytes = [UInt8](repeating: 0, count: 24)
    let count = pread(descriptor, &bytes, bytes.count, 0)
    let digits = bytes.prefix(max(count, 0)).prefix { (0x30...0x39).contains($0) }
    return digits.isEmpty ? "another process" : "the process \(String(decoding: digits, as: UTF8.self))"
  }
}
