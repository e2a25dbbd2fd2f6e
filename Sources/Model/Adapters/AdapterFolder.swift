import Formats
public import Foundation

/// The folder that adapters are read from, with a folder for each adapter. Paths that lead out of it are refused.
public struct AdapterFolder: Sendable {
  /// The folder's path, with "." and ".." resolved.
  public let url: URL

  /// - Parameter url: need not exist
  public init(_ url: URL) { self.url = url.standardizedFileURL }

  /// The names of the folders inside, sorted; hidden ones are left out.
  /// - Throws: `ModelError` if the folder cannot be read
  public func names() throws -> [String] {
    let entries: [String]
    do {
      entries = try FileManager.default.contentsOfDirectory(atPath: url.path)
    } catch {
      throw ModelError(url.path, reason: "the adapters' folder cannot be read")
    }
    return entries.filter { name in
      var isFolder: ObjCBool = false
      return !name.hasPrefix(".")
        && FileManager.default.fileExists(atPath: url.appending(path: name).path, isDirectory: &isFolder)
        && isFolder.boolValue
    }.sorted()
  }

  /// The real path of an adapter's folder, with links followed.
  /// - Parameter path: relative to this folder, or absolute
  /// - Throws: `AdapterError` if the folder, or one of the adapter's files, is not inside this folder's real path
  public func confined(_ path: String) throws(AdapterError) -> URL {
    let wanted = path.hasPrefix("/") ? URL(filePath: path) : url.appending(path: path)
    let root = url.resolvingSymlinksInPath().path
    let real = wanted.standardizedFileURL.resolvingSymlinksInPath()
    // Compared by bytes: equality of strings also holds for other bytes that mean the same characters.
    let inside = (root.hasSuffix("/") ? root : root + "/").utf8
    guard !path.utf8.contains(0), real.path.utf8.starts(with: inside) else {
      throw AdapterError(.badPath, "'\(path)' is not inside the adapters' folder")
    }
    for file in AdapterImport.files(in: real) {
      guard real.appending(path: file).resolvingSymlinksInPath().path.utf8.starts(with: inside) else {
        throw AdapterError(.badPath, "'\(path)/\(file)' leads out of the adapters' folder")
      }
    }
    return real
  }

  /// The `FileIdentity` of an adapter's files as one text; empty if one of them is missing.
  public static func identity(of folder: URL) -> String {
    let files = AdapterImport.files(in: folder)
    let identities = files.compactMap { try? FileIdentity(folder.appending(path: $0)) }
    guard identities.count == files.count else { return "" }
    return identities.map { $0.text(separator: " ") }.joined(separator: "|")
  }
}
