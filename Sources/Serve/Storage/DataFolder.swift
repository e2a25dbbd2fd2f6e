import Formats
public import Foundation
internal import Glibc
internal import Model

/// The folder with everything that outlives the process, its owner's alone, and held by one process at a time: by a lock
/// that the system lets go of when the process ends, however it ends.
public final class DataFolder: Sendable {
  public let url: URL
  /// Why others than the owner can still enter the folder; `nil` if they cannot.
  public let exposure: String?
  private let descriptor: Int32

  /// Makes the folder if it is missing, takes its lock, and takes every right in it from others.
  /// - Throws: `ModelError` naming the folder, and the process that holds it
  public init(_ url: URL) throws {
    self.url = url.standardizedFileURL
    exposure = try FolderAccess.createPrivate(self.url)
    descriptor = try Self.lock(self.url)
    // A folder with an identity was made by a version that makes nothing for others to read. Of a copy, the copier may
    // have decided.
    if !Self.isPrivate(identityURL) { tighten() }
  }

  deinit { close(descriptor) }

  /// - Returns: the locked file's descriptor
  private static func lock(_ folder: URL) throws -> Int32 {
    let file = folder.appending(path: "lock").path
    let descriptor = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw ModelError(file, reason: systemMessage(errno)) }
    do {
      guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
        let code = errno
        guard code == EWOULDBLOCK else { throw ModelError(file, reason: "cannot be locked: \(systemMessage(code))") }
        throw ModelError(folder.path, reason: "is in use by \(holder(descriptor))")
      }
      let text = Array("\(getpid())\n".utf8)
      guard ftruncate(descriptor, 0) == 0, pwrite(descriptor, text, text.count, 0) == text.count else {
        throw ModelError(file, reason: "cannot be written: \(systemMessage(errno))")
      }
      return descriptor
    } catch {
      close(descriptor)
      throw error
    }
  }

  private static func holder(_ descriptor: Int32) -> String {
    var bytes = [UInt8](repeating: 0, count: 24)
    let count = pread(descriptor, &bytes, bytes.count, 0)
    let digits = bytes.prefix(max(count, 0)).prefix { (0x30...0x39).contains($0) }
    return digits.isEmpty ? "another process" : "the process \(String(decoding: digits, as: UTF8.self))"
  }

  // MARK: who may read

  /// What Graft keeps here; what else lies in the folder is not Graft's to change.
  private static let ownNames = ["lock", "bases", "adapters", "files", "jobs"]

  private func tighten() {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: url.path)) ?? []
    for name in names where Self.ownNames.contains(name) || name.hasPrefix(MetadataDatabase.fileName) {
      FolderAccess.tighten(url.appending(path: name))
    }
    FolderAccess.tighten(identityURL)
  }

  private static func isPrivate(_ url: URL) -> Bool {
    var status = stat()
    return stat(url.path, &status) == 0 && status.st_mode & 0o077 == 0
  }

  // MARK: which folder it is

  private var identityURL: URL { url.appending(path: "identity") }

  /// What the folder's database knows it by; `nil` for a folder that no database belongs to yet.
  var identity: String? {
    (try? String(contentsOf: identityURL, encoding: .utf8))?.trimmingCharacters(in: .whitespacesAndNewlines)
  }

  func setIdentity(_ identity: String) throws {
    try AtomicFile.write(Array("\(identity)\n".utf8), to: identityURL)
  }
}
