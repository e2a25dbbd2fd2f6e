public import Foundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// What changes when a file is replaced or written to: device, inode, size and the time of the last change of its
/// contents or attributes (`st_ctime`), to the nanosecond. Two equal identities of a path mean the same contents, without
/// reading them.
public struct FileIdentity: Sendable, Equatable {
  private let device: String
  private let inode: String
  private let size: String
  private let changed: String

  /// - Throws: `ModelError` naming the file that cannot be looked at
  public init(_ url: URL) throws {
    var status = stat()
    guard stat(url.path, &status) == 0 else { throw ModelError(url.path, reason: systemMessage(errno)) }
    device = String(status.st_dev)
    inode = String(status.st_ino)
    size = String(status.st_size)
    changed = "\(status.st_ctim.tv_sec).\(status.st_ctim.tv_nsec)"
  }

  /// The four parts as a text that can be stored and compared.
  public func text(separator: String) -> String { [device, inode, size, changed].joined(separator: separator) }
}
