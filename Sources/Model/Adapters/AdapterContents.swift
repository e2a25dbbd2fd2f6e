import Formats
public import Foundation

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The adapters' files in a data folder, `DATA/adapters/HASH/`, each folder named after the SHA-256 of what is in it.
///
/// A folder appears under its hash whole and synced, or not at all, and the files that make the adapter are never written
/// to again; `AdapterPreparer` has its own beside them, which go with them. Unfinished folders have names that begin with
/// ".new-" and are removed at the next start.
public struct AdapterContents: Sendable {
  /// What makes an adapter, as PEFT calls the files.
  public static let fileNames = [PEFTFolder.configurationFile, PEFTFolder.weightsFile]

  public let folder: URL
  /// Most bytes that the files of one adapter may have together.
  public let sizeLimit: Int

  private static let stagingPrefix = ".new-"
  private static let pieceSize = 1 << 20

  /// - Throws: `ModelError` if the folder cannot be made
  public init(dataFolder: URL, sizeLimit: Int) throws {
    folder = dataFolder.appending(path: "adapters")
    self.sizeLimit = sizeLimit
    try FolderAccess.create(folder)
  }

  public func location(_ hash: String) -> URL { folder.appending(path: hash) }

  public func exists(_ hash: String) -> Bool { FileManager.default.fileExists(atPath: location(hash).path) }

  /// SHA-256 over the files' names, lengths and bytes, and their bytes in all.
  /// - Throws: `ModelError` naming the file that is missing, no regular file, or with the others over the size limit
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

  /// An empty folder to put an adapter's files into.
  public func makeStaging() throws -> URL {
    let url = folder.appending(path: Self.stagingPrefix + UUID().uuidString)
    guard mkdir(url.path, 0o700) == 0 else {
      throw ModelError(url.path, reason: "cannot be created: \(MappedFile.describe(errno))")
    }
    return url
  }

  /// Copies an adapter's files, synced, and hashes what was copied.
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

  /// Gives a staged folder, whose files are synced, the name of its hash. Where contents of that hash are there
  /// already and intact, the staged ones are dropped.
  public func adopt(_ staging: URL, hash: String) throws {
    let target = location(hash)
    if exists(hash) {
      if isIntact(hash) { return discard(staging) }
      discard(target)
    }
    guard rename(staging.path, target.path) == 0 else {
      throw ModelError(target.path, reason: "cannot be written: \(MappedFile.describe(errno))")
    }
    try FolderAccess.sync(folder)
  }

  /// - Throws: `ModelError` if the contents are missing or not what their name says
  public func verify(_ hash: String) throws {
    guard exists(hash) else { throw ModelError(location(hash).path, reason: "missing") }
    let found = try self.hash(of: location(hash)).hash
    guard found == hash else {
      throw ModelError(location(hash).path, reason: "damaged: its contents do not have the hash they are named after")
    }
  }

  public func isIntact(_ hash: String) -> Bool { (try? verify(hash)) != nil }

  public func remove(_ hash: String) { discard(location(hash)) }

  /// Removes a folder that was staged, or is to go.
  public func discard(_ folder: URL) { try? FileManager.default.removeItem(at: folder) }

  /// Removes folders that a process which has ended was still filling. Contents stay, whoever knows of them.
  public func removeUnfinished() {
    for name in (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    where name.hasPrefix(Self.stagingPrefix) { discard(folder.appending(path: name)) }
  }

  /// Removes what preparing an adapter has left beside its files.
  /// - Returns: whether the contents are there at all
  public func removeLeftovers(of hash: String) -> Bool {
    guard let names = try? FileManager.default.contentsOfDirectory(atPath: location(hash).path) else { return false }
    for name in names where AdapterPreparer.isLeftover(name) { discard(location(hash).appending(path: name)) }
    return true
  }

  /// Whether a name is that of contents.
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

  /// Reads by copying: a file that is cut meanwhile is an error then, and does not kill the process.
  private static func read(_ file: MappedFile, _ body: (UnsafeRawBufferPointer) throws -> Void) throws {
    try withUnsafeTemporaryAllocation(byteCount: min(pieceSize, max(file.count, 1)), alignment: 64) { buffer in
      for offset in stride(from: 0, to: file.count, by: pieceSize) {
        let count = min(pieceSize, file.count - offset)
        let piece = UnsafeMutableRawBufferPointer(rebasing: buffer[..<count])
        try file.read(offset: offset, into: piece)
        try body(UnsafeRawBufferPointer(piece))
      }
    }
  }
}
