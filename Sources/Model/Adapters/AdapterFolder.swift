import Formats
public import Foundation

/// The folder that adapters may be read from, one folder an adapter; paths that lead out of it are refused.
public struct AdapterFolder: Sendable {
  public let url: URL

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

  /// The real path of an adapter's folder, links followed, if it and its files lie inside this folder's real path.
  /// - Parameter path: relative to this folder, or absolute inside it
  public func confined(_ path: String) throws(AdapterError) -> URL {
    let wanted = path.hasPrefix("/") ? URL(filePath: path) : url.appending(path: path)
    let root = url.resolvingSymlinksInPath().path
    let real = wanted.standardizedFileURL.resolvingSymlinksInPath()
    // By bytes: a String's prefix also matches paths that only look the same.
    let inside = (root.hasSuffix("/") ? root : root + "/").utf8
    guard !path.utf8.contains(0), real.path.utf8.starts(with: inside) else {
      throw AdapterError(.badPath, "'\(path)' is not inside the adapters' folder")
    }
    for file in AdapterContents.fileNames {
      guard real.appending(path: file).resolvingSymlinksInPath().path.utf8.starts(with: inside) else {
        throw AdapterError(.badPath, "'\(path)/\(file)' leads out of the adapters' folder")
      }
    }
    return real
  }

  /// The `FileIdentity` of an adapter's files as one text; empty if one of them is missing.
  public static func identity(of folder: URL) -> String {
    let identities = AdapterContents.fileNames.compactMap { try? FileIdentity(folder.appending(path: $0)) }
    guard identities.count == AdapterContents.fileNames.count else { return "" }
    return identities.map { $0.text(separator: " ") }.joined(separator: "|")
  }
}
