public import Foundation

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Writes a folder that appears under its name whole or not at all. Its files are written into a temporary folder beside it,
/// which `finish` renames.
///
/// Without `finish`, deinit deletes what was written.
public final class AtomicFolder {
  /// The name under which the folder will appear.
  public let url: URL
  /// The folder that files are written to.
  public let temporary: URL
  private var isFinished = false

  private static let copiedBytes = 4 << 20

  /// - Parameter url: does not exist, or is an empty folder
  /// - Throws: `ModelError` naming the path if there is something already, or if its parent cannot be written to
  public init(_ url: URL) throws {
    let url = url.standardizedFileURL
    try Self.checkTarget(url)
    let parent = url.deletingLastPathComponent()
    try FolderAccess.create(parent)
    var template = Array((parent.path + "/" + AtomicFile.temporaryPrefix(of: url) + "XXXXXX").utf8CString)
    guard mkdtemp(&template) != nil else { throw ModelError(url.path, reason: systemMessage(errno)) }
    let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    chmod(path, FolderAccess.bits(of: parent))
    self.url = url
    temporary = URL(filePath: path)
  }

  deinit {
    if !isFinished { try? FileManager.default.removeItem(at: temporary) }
  }

  /// Checks that nothing is lost if a new file or folder gets this path.
  /// - Throws: `ModelError` for a file, and for a folder that is not empty
  public static func checkTarget(_ url: URL) throws {
    var status = stat()
    guard lstat(url.path, &status) == 0 else { return }
    guard status.st_mode & S_IFMT == S_IFDIR else {
      throw ModelError(url.path, reason: "exists already; name a new file or folder")
    }
    try FolderAccess.checkIsEmpty(url, advice: "name a new folder")
  }

  /// The path of a file in the temporary folder.
  public func file(_ name: String) -> URL { temporary.appending(path: name) }

  /// Copies a file, a few megabytes at a time.
  /// - Throws: `ModelError` naming the file that cannot be read or written
  public func copy(_ source: URL) throws {
    let file = try MappedFile(source)
    let copy = try AtomicFile(self.file(source.lastPathComponent))
    for start in stride(from: 0, to: file.count, by: Self.copiedBytes) {
      let bytes = try file.read(offset: start, count: min(Self.copiedBytes, file.count - start))
      try bytes.withUnsafeBytes { try copy.write($0) }
    }
    try copy.finish()
  }

  /// Makes the folder appear under its name.
  /// - Throws: `ModelError` naming the path, for example if another program has made it meanwhile
  public func finish() throws {
    try FolderAccess.sync(temporary)
    guard rename(temporary.path, url.path) == 0 else {
      throw ModelError(url.path, reason: "cannot be written: \(systemMessage(errno))")
    }
    isFinished = true
    try FolderAccess.sync(url.deletingLastPathComponent())
  }
}
