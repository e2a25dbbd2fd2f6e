public import Foundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Who may read what is written: nothing is more open than the folder it lies in, so a private folder's contents are
/// private without a word to whoever writes them.
public enum FolderAccess {
  /// The permission bits of a folder; those of a folder that cannot be looked at are its owner's alone.
  static func bits(of folder: URL) -> mode_t {
    var status = stat()
    return stat(folder.path, &status) == 0 ? status.st_mode & 0o777 : 0o700
  }

  /// Makes a folder, and those above it, each with no more rights than the one that it lies in and no more than the
  /// process's umask leaves. One that is there stays as it is.
  /// - Throws: `ModelError` naming the folder
  public static func create(_ folder: URL) throws {
    if isFolder(folder) { return }
    let parent = folder.deletingLastPathComponent()
    if parent.path != folder.path, !isFolder(parent) { try create(parent) }
    guard mkdir(folder.path, bits(of: parent)) == 0 || (errno == EEXIST && isFolder(folder)) else {
      throw ModelError(folder.path, reason: "cannot be created: \(MappedFile.describe(errno))")
    }
  }

  /// Makes a folder that its owner alone may enter (0700), or makes one that is there so, unless it is one for everybody's
  /// files (sticky).
  /// - Returns: why a folder that is there is still open to others: it belongs to someone else, say; `nil` if it is not
  /// - Throws: `ModelError` naming the folder, if there is none and it cannot be made
  @discardableResult
  public static func createPrivate(_ folder: URL) throws -> String? {
    if !isFolder(folder) {
      try create(folder.deletingLastPathComponent())
      guard mkdir(folder.path, 0o700) == 0 || (errno == EEXIST && isFolder(folder)) else {
        throw ModelError(folder.path, reason: "cannot be created: \(MappedFile.describe(errno))")
      }
    }
    var status = stat()
    guard stat(folder.path, &status) == 0 else { return MappedFile.describe(errno) }
    if status.st_mode & 0o077 == 0 { return nil }
    // /tmp, say: others have files of their own there.
    if status.st_mode & S_ISVTX != 0 { return "it is a folder that many share (sticky)" }
    return chmod(folder.path, 0o700) == 0 ? nil : MappedFile.describe(errno)
  }

  /// Makes the names in a folder durable: what was renamed into it, or made in it, is there after a power loss.
  /// - Throws: `ModelError` naming the folder
  public static func sync(_ folder: URL) throws {
    let descriptor = open(folder.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw ModelError(folder.path, reason: MappedFile.describe(errno)) }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else {
      throw ModelError(folder.path, reason: "cannot be synced: \(MappedFile.describe(errno))")
    }
  }

  /// Takes every right from others than the owner, in a folder or file and all that is below it. Links are not followed;
  /// what belongs to someone else stays as it is.
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
