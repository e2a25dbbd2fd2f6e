import Formats
public import Foundation
internal import Glibc
internal import Model

/// The folder for everything that outlives the process. Only its owner can read it. Only one process at a time can use
/// it, by a file lock that the system releases in any case when the process ends.
public final class DataFolder: Sendable {
  /// The folder of a user who names none: `graft` in the user's data home.
  public static var defaultPath: String {
    let variables = ProcessInfo.processInfo.environment
    if let home = variables["XDG_DATA_HOME"], !home.isEmpty { return home + "/graft" }
    return (variables["HOME"] ?? ".") + "/.local/share/graft"
  }

  /// Where the folder is.
  public let url: URL
  /// Why other users can still enter the folder; `nil` if they cannot.
  public let exposure: String?
  private let descriptor: Int32

  /// Creates the folder if it is missing, locks it, and removes other users' permissions in it.
  /// - Throws: `ModelError` naming the folder, and the process that holds it
  public init(_ url: URL) throws {
    self.url = url.standardizedFileURL
    exposure = try FolderAccess.createPrivate(self.url)
    descriptor = try Self.lock(self.url)
    // A version that makes the identity private makes everything else private too, so there is nothing to change.
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
      try write("\(getpid())\n", to: descriptor, file)
      return descriptor
    } catch {
      close(descriptor)
      throw error
    }
  }

  private static func write(_ text: String, to descriptor: Int32, _ file: String) throws {
    let bytes = Array(text.utf8)
    guard ftruncate(descriptor, 0) == 0, pwrite(descriptor, bytes, bytes.count, 0) == bytes.count else {
      throw ModelError(file, reason: "cannot be written: \(systemMessage(errno))")
    }
  }

  /// Writes into the locked file where this process serves, so that others that want the folder can be told.
  /// - Parameter address: "http://127.0.0.1:8080"
  /// - Throws: `ModelError` if the file cannot be written
  public func announce(_ address: String) throws {
    try Self.write("\(getpid())\n\(address)\n", to: descriptor, url.appending(path: "lock").path)
  }

  /// The process that has written its id into the locked file, and the server's address if it is one.
  private static func holder(_ descriptor: Int32) -> String {
    var bytes = [UInt8](repeating: 0, count: 512)
    let count = pread(descriptor, &bytes, bytes.count, 0)
    let lines = String(decoding: bytes.prefix(max(count, 0)), as: UTF8.self).split(separator: "\n")
    guard let number = lines.first.flatMap({ Int($0) }) else { return "another process" }
    guard lines.count > 1, lines[1].hasPrefix("http") else { return "the process \(number)" }
    return "the process \(number), a server at \(lines[1]); give --url \(lines[1]) to 'graft adapters' and 'graft jobs'"
  }

  // MARK: permissions

  /// What Graft writes here, beside the database. Other files in the folder are left as they are.
  private static let ownNames = ["lock", "bases", "adapters", "files", "jobs", "batches"]

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

  // MARK: identity

  private var identityURL: URL { url.appending(path: "identity") }

  /// The random name that the folder and its database have in common; `nil` if the folder has none yet.
  var identity: String? {
    (try? String(contentsOf: identityURL, encoding: .utf8))?.trimmingCharacters(in: .whitespacesAndNewlines)
  }

  func setIdentity(_ identity: String) throws {
    try AtomicFile.write(Array("\(identity)\n".utf8), to: identityURL)
  }
}
