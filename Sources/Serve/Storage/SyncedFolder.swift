import Formats
internal import Foundation
internal import Glibc
internal import Model

/// Makes names in a folder durable.
enum SyncedFolder {
  /// - Throws: `ModelError` naming the folder
  static func sync(_ url: URL) throws {
    let descriptor = open(url.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw ModelError(url.path, reason: systemMessage(errno)) }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else {
      throw ModelError(url.path, reason: "cannot be synced: \(systemMessage(errno))")
    }
  }
}
