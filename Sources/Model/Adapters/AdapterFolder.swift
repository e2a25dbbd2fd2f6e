import Formats
public import Foundation

/// The folder that adapters are read from, with a folder or a GGUF file for each adapter. Paths that lead out of it are
/// refused.
public struct AdapterFolder: Sendable {
  /// The folder's path, with "." and ".." resolved.
  public let url: URL

  /// - Parameter url: need not exist
  public init(_ url: URL) { self.url = url.standardizedFileURL }

  /// An adapter inside.
  public struct Entry: Sendable, Equatable {
    /// The folder's name, or that of a GGUF file without its ending.
    public let name: String
    /// Relative to the folder of adapters.
    public let path: String
  }

  private static let ggufSuffix = ".gguf"

  /// The paths that an adapter of a name can have.
  public static func paths(of name: String) -> [String] { [name, name + ggufSuffix] }

  /// The folders and GGUF files inside, sorted by name, a folder before a file; hidden ones are left out.
  /// - Throws: `ModelError` if the folder cannot be read
  public func entries() throws -> [Entry] {
    let paths: [String]
    do {
      paths = try FileManager.default.contentsOfDirectory(atPath: url.path)
    } catch {
      throw ModelError(url.path, reason: "the adapters' folder cannot be read")
    }
    return paths.compactMap { path in
      var isFolder: ObjCBool = false
      guard !path.hasPrefix("."),
        FileManager.default.fileExists(atPath: url.appending(path: path).path, isDirectory: &isFolder)
      else { return nil }
      if isFolder.boolValue { return Entry(name: path, path: path) }
      return path.hasSuffix(Self.ggufSuffix)
        ? Entry(name: String(path.dropLast(Self.ggufSuffix.count)), path: path) : nil
    }.sorted { ($0.name, $0.path) < ($1.name, $1.path) }
  }

  /// The real path of an adapter's folder or file, with links followed.
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
  /// - Parameter folder: or a GGUF file
  public static func identity(of folder: URL) -> String {
    let names = AdapterImport.files(in: folder)
    let files = names.isEmpty ? [folder] : names.map { folder.appending(path: $0) }
    let identities = files.compactMap { try? FileIdentity($0) }
    guard identities.count == files.count else { return "" }
    return identities.map { $0.text(separator: " ") }.joined(separator: "|")
  }
}
