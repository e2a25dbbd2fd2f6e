import Formats
public import Foundation

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The adapters' files in a data folder: `DATA/adapters/HASH/`, where HASH is the SHA-256 of the files.
///
/// A folder appears under its hash whole and synced, or not at all, and its PEFT files never change. `AdapterPreparer` keeps
/// prepared files beside them, which are deleted with them. Folders that are not finished have names that begin with ".new-"
/// and are deleted at the next start.
public struct AdapterContents: Sendable {
  /// The names of the files that make an adapter.
  public static let fileNames = [PEFTFolder.configurationFile, PEFTFolder.weightsFile]

  /// `DATA/adapters`
  public let folder: URL
  /// The maximum size of an adapter's files together, in bytes.
  public let sizeLimit: Int

  private static let stagingPrefix = ".new-"
  private static let bufferSize = 1 << 20

  /// - Parameters:
  ///   - dataFolder: `DATA`
  ///   - sizeLimit: of an adapter's files together, in bytes
  /// - Throws: `ModelError` if the folder cannot be made
  public init(dataFolder: URL, sizeLimit: Int) throws {
    folder = dataFolder.appending(path: "adapters")
    self.sizeLimit = sizeLimit
    try FolderAccess.create(folder)
  }

  /// The folder of contents, whether or not they exist.
  public func location(_ hash: String) -> URL { folder.appending(path: hash) }

  /// Whether there is a folder for the hash; `verify` says whether its files are intact.
  public func exists(_ hash: String) -> Bool { FileManager.default.fileExists(atPath: location(hash).path) }

  /// Hashes an adapter's files.
  /// - Returns: SHA-256 over the files' names, lengths and bytes; and their size together, in bytes
  /// - Throws: `ModelError` naming the file that is missing, is no regular file, or exceeds the size limit
  public func hash(of folder: URL) throws -> (hash: String, bytes: Int) {
    try Self.hash(of: folder, sizeLimit: sizeLimit)
  }

  static func hash(of folder: URL, sizeLimit: Int = .max) throws -> (hash: String, bytes: Int) {
    var hash = SHA256()
    var total = 0
    for name in fileNames {
      let file = try opened(folder.appending(path: name), total: &total, sizeLimit: sizeLimit)
      hash.update(head(of: file))
      try read(file) { hash.update($0) }
    }
    return (hash.finish(), total)
  }

  /// Makes an empty folder for an adapter's files, which `adopt` later gives its hash's name.
  /// - Throws: `ModelError` naming the folder
  public func makeStaging() throws -> URL {
    let url = folder.appending(path: Self.stagingPrefix + UUID().uuidString)
    guard mkdir(url.path, 0o700) == 0 else {
      throw ModelError(url.path, reason: "cannot be created: \(systemMessage(errno))")
    }
    return url
  }

  /// Copies an adapter's files into a staged folder, synced, and hashes what it copies.
  /// - Returns: as `hash(of:)`
  /// - Throws: as `hash(of:)`, and `ModelError` naming a file that cannot be written
  public func copy(from source: URL, to staging: URL) throws -> (hash: String, bytes: Int) {
    var hash = SHA256()
    var total = 0
    for name in Self.fileNames {
      let file = try Self.opened(source.appending(path: name), total: &total, sizeLimit: sizeLimit)
      let copy = try AtomicFile(staging.appending(path: name))
      hash.update(Self.head(of: file))
      try Self.read(file) { bytes in
        hash.update(bytes)
        try copy.write(bytes)
      }
      try copy.finish()
    }
    return (hash.finish(), total)
  }

  /// Renames a staged folder, whose files are synced, to its hash. If there are intact contents of that hash already, the
  /// staged folder is deleted.
  /// - Throws: `ModelError` naming the folder that cannot be renamed or synced
  public func adopt(_ staging: URL, hash: String) throws {
    let target = location(hash)
    if exists(hash) {
      if isIntact(hash) { return discard(staging) }
      discard(target)
    }
    guard rename(staging.path, target.path) == 0 else {
      throw ModelError(target.path, reason: "cannot be written: \(systemMessage(errno))")
    }
    try FolderAccess.sync(folder)
  }

  /// Hashes contents again.
  /// - Throws: `ModelError` if the contents are missing, or if their hash is not their name
  public func verify(_ hash: String) throws {
    guard exists(hash) else { throw ModelError(location(hash).path, reason: "missing") }
    let found = try self.hash(of: location(hash)).hash
    guard found == hash else {
      throw ModelError(location(hash).path, reason: "damaged: its contents do not have the hash they are named after")
    }
  }

  /// Whether `verify` finds nothing wrong.
  public func isIntact(_ hash: String) -> Bool { (try? verify(hash)) != nil }

  /// Deletes the contents of a hash, with what was prepared from them.
  public func remove(_ hash: String) { discard(location(hash)) }

  /// Deletes a folder.
  public func discard(_ folder: URL) { try? FileManager.default.removeItem(at: folder) }

  /// Deletes staged folders that an earlier process did not finish. Contents stay, whether or not a record names them.
  public func removeUnfinished() {
    for name in (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    where name.hasPrefix(Self.stagingPrefix) { discard(folder.appending(path: name)) }
  }

  /// Deletes unfinished prepared files, and those of other versions, beside an adapter's files.
  /// - Returns: whether there are contents of this hash
  public func removeLeftovers(of hash: String) -> Bool {
    guard let names = try? FileManager.default.contentsOfDirectory(atPath: location(hash).path) else { return false }
    for name in names where AdapterPreparer.isLeftover(name) { discard(location(hash).appending(path: name)) }
    return true
  }

  /// Whether a folder's name is a hash.
  public static func isHash(_ name: String) -> Bool {
    name.utf8.count == 64
      && name.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
  }

  private static func opened(_ url: URL, total: inout Int, sizeLimit: Int) throws -> MappedFile {
    let file = try MappedFile(url)
    guard file.count <= sizeLimit - total else {
      throw ModelError(file.name, reason: "the adapter has more than the \(sizeLimit) bytes allowed")
    }
    total += file.count
    return file
  }

  private static func head(of file: MappedFile) -> String { "\(file.name) \(file.count)\n" }

  /// Reads a file by copying, so that making the file shorter meanwhile is an error and does not kill the process.
  private static func read(_ file: MappedFile, _ body: (UnsafeRawBufferPointer) throws -> Void) throws {
    try withUnsafeTemporaryAllocation(byteCount: min(bufferSize, max(file.count, 1)), alignment: 64) { buffer in
      for offset in stride(from: 0, to: file.count, by: bufferSize) {
        let count = min(bufferSize, file.count - offset)
        let part = UnsafeMutableRawBufferPointer(rebasing: buffer[..<count])
        try file.read(offset: offset, into: part)
        try body(UnsafeRawBufferPointer(part))
      }
    }
  }
}
