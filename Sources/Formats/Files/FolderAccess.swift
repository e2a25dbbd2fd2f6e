public import Foundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// The access rights of folders that this program makes. Nothing is more open than the folder that it is in, so the
/// contents of a private folder are private, whichever part of the program writes them.
public enum FolderAccess {
  /// The permission bits of a folder; 0700 if they cannot be read.
  static func bits(of folder: URL) -> mode_t {
    var status = stat()
    return stat(folder.path, &status) == 0 ? status.st_mode & 0o777 : 0o700
  }

  /// Makes a folder and the missing folders above it, each with the rights of its parent, less the process's umask. A
  /// folder that exists stays as it is.
  /// - Throws: `ModelError` naming the folder
  public static func create(_ folder: URL) throws {
    if isFolder(folder) { return }
    let parent = folder.deletingLastPathComponent()
    if parent.path != folder.path, !isFolder(parent) { try create(parent) }
    guard mkdir(folder.path, bits(of: parent)) == 0 || (errno == EEXIST && isFolder(folder)) else {
      throw ModelError(folder.path, reason: "cannot be created: \(systemMessage(errno))")
    }
  }

  /// The names in a folder; none if it does not exist.
  /// - Throws: `ModelError` naming a file in its place, or a folder that cannot be read
  public static func names(in folder: URL) throws(ModelError) -> [String] {
    guard FileManager.default.fileExists(atPath: folder.path) else { return [] }
    guard isFolder(folder) else { throw ModelError(folder.path, reason: "is a file, not a folder") }
    do { return try FileManager.default.contentsOfDirectory(atPath: folder.path) } catch {
      throw ModelError(folder.path, reason: "cannot be read: \(error.localizedDescription)")
    }
  }

  /// Checks that a folder is empty or missing, so that nothing in it is overwritten.
  /// - Parameter advice: what to do if it is not, for the error
  /// - Throws: `ModelError` naming the folder
  public static func checkIsEmpty(_ folder: URL, advice: String) throws(ModelError) {
    guard try names(in: folder).isEmpty else { throw ModelError(folder.path, reason: "is not empty; \(advice)") }
  }

  /// Makes a folder that only its owner may enter (0700). A folder that exists gets these rights, unless it is shared by
  /// many users (sticky), as /tmp is.
  /// - Returns: why a folder that existed is still open to others, for instance because it belongs to another user; `nil` if
  ///   it is private
  /// - Throws: `ModelError` naming a folder that cannot be made
  @discardableResult
  public static func createPrivate(_ folder: URL) throws -> String? {
    if !isFolder(folder) {
      try create(folder.deletingLastPathComponent())
      guard mkdir(folder.path, 0o700) == 0 || (errno == EEXIST && isFolder(folder)) else {
        throw ModelError(folder.path, reason: "cannot be created: \(systemMessage(errno))")
      }
    }
    var status = stat()
    guard stat(folder.path, &status) == 0 else { return systemMessage(errno) }
    if status.st_mode & 0o077 == 0 { return nil }
    if status.st_mode & S_ISVTX != 0 { return "it is a folder that many share (sticky)" }
    return chmod(folder.path, 0o700) == 0 ? nil : systemMessage(errno)
  }

  /// Syncs a folder (fsync): files that were created or renamed in it still have their names after a power loss.
  /// - Throws: `ModelError` naming the folder
  public static func sync(_ folder: URL) throws {
    let descriptor = open(folder.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw ModelError(folder.path, reason: systemMessage(errno)) }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else {
      throw ModelError(folder.path, reason: "cannot be synced: \(systemMessage(errno))")
    }
  }

  /// Removes all rights of other users from a file, or from a folder and everything below it. Links are not followed; what
  /// belongs to another user stays as it is.
  public static func tighten(_ url: URL) {
    var status = stat()
    guard lstat(url.path, &status) == 0, status.st_mode & S_IFMT != S_IFLNK else { return }
    if status.st_mode & 0o077 != 0 { _ = chmod(url.path, status.st_mode & 0o700) }
    guard status.st_mode & S_IFMT == S_IFDIR else { return }
    for name in (try? FileManager.default.contentsOfDirectory(atPath: url.path)) ?? [] {
      tighten(url.appending(path: name))
    }
  }

  private static func isFolder(_ url: URL) -> Bool {
    var isFolder: ObjCBool = false
    return FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder) && isFolder.boolValue
  }
}
