import Foundation
import Formats
import Model

/// Copies files below a folder to the same places below another, and records the SHA-256 of each.
struct FileCopies {
  /// A file that was copied.
  struct Entry: Equatable {
    /// From the folder on, with slashes.
    let path: String
    let bytes: Int
    let sha256: String
  }

  private let source: URL
  private let target: URL
  private(set) var entries: [Entry] = []

  init(from source: URL, to target: URL) { (self.source, self.target) = (source, target) }

  /// Copies everything below a folder. Names that begin with "." are of unfinished files. What vanishes meanwhile is left
  /// out; a checkpoint of which a part vanished is left out whole.
  mutating func copyFolder(_ path: String) throws {
    let url = source.appending(path: path)
    guard let names = try? FileManager.default.contentsOfDirectory(atPath: url.path) else { return }
    try FolderAccess.create(target.appending(path: path))
    let before = entries.count
    for name in names.sorted() where !name.hasPrefix(".") {
      let child = "\(path)/\(name)"
      var status = stat()
      guard lstat(source.appending(path: child).path, &status) == 0 else { continue }
      switch status.st_mode & S_IFMT {
      case S_IFDIR: try copyFolder(child)
      case S_IFREG: try copyFile(child)
      default: continue
      }
    }
    guard url.lastPathComponent.hasPrefix("checkpoint-") else { return }
    let left = (try? FileManager.default.contentsOfDirectory(atPath: url.path)) ?? []
    if left.sorted() != names.sorted() {
      entries.removeSubrange(before...)
      try FileManager.default.removeItem(at: target.appending(path: path))
    }
  }

  /// Copies a file.
  /// - Returns: false if there is no such file
  /// - Throws: `ModelError` naming the file that cannot be written, or the system's error in reading
  @discardableResult
  mutating func copyFile(_ path: String) throws -> Bool {
    guard let input = try? FileHandle(forReadingFrom: source.appending(path: path)) else { return false }
    defer { try? input.close() }
    let url = target.appending(path: path)
    try FolderAccess.create(url.deletingLastPathComponent())
    let output = try AtomicFile(url)
    var hash = SHA256()
    var bytes = 0
    while let part = try input.read(upToCount: 4 << 20), !part.isEmpty {
      try part.withUnsafeBytes { buffer in
        hash.update(buffer)
        try output.write(buffer)
      }
      bytes += part.count
    }
    try output.finish()
    entries.append(Entry(path: path, bytes: bytes, sha256: hash.finish()))
    return true
  }

  /// Records a file that is at its target already.
  mutating func note(_ path: String) throws {
    let url = target.appending(path: path)
    let bytes = try url.resourceValues(forKeys: [.fileSizeKey]).fileSize ?? 0
    entries.append(Entry(path: path, bytes: bytes, sha256: try SHA256.of(file: url)))
  }
}
