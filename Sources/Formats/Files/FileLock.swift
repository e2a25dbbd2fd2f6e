public import Foundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Runs `body` while this process holds an advisory lock (`flock`) on a file, which is made if there is none. Waits as
/// long as another process holds it.
/// - Throws: `ModelError` naming the file that cannot be locked, and what `body` throws
public func withFileLock<Value>(_ url: URL, _ body: () throws -> Value) throws -> Value {
  let descriptor = open(url.path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
  guard descriptor >= 0 else { throw ModelError(url.path, reason: systemMessage(errno)) }
  defer { close(descriptor) }
  while flock(descriptor, LOCK_EX) != 0 {
    guard errno == EINTR else {
      throw ModelError(url.path, reason: "cannot be locked: \(systemMessage(errno))")
    }
  }
  return try body()
}
