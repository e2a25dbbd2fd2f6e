public import Formats
public import Foundation
public import Kernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// The prepared bases of a data folder, `DATA/bases/`, keyed by the source's hash and the format's version.
public struct BaseStore: Sendable {
  /// `DATA/bases`
  public let folder: URL

  /// - Parameter dataFolder: `DATA`, which need not exist
  public init(dataFolder: URL) { folder = dataFolder.appending(path: "bases") }

  /// Where the base of a source lies, prepared or not.
  public func location(sourceHash: String) -> URL {
    folder.appending(path: "\(sourceHash.prefix(32))-v\(PreparedBaseHeader.currentVersion).graft")
  }

  /// The base that `source` holds: from its prepared file, which is made first if it is missing or damaged.
  ///
  /// Preparing is done under a lock, so that of two processes one prepares and the other waits.
  /// - Parameter progress: the share prepared, 0 ... 1; not called where nothing is to be done; may throw to stop
  /// - Throws: `ModelError` naming what is wrong with the source or cannot be written
  public func open(
    _ source: any PublishedModel, mode: ComputeMode = .f32, pool: ThreadPool,
    progress: @escaping (Double) throws -> Void = { _ in }
  ) throws -> (base: Base, location: URL) {
    try createFolder()
    let hash = try sourceHash(source)
    let url = location(sourceHash: hash)
    if let base = try? Base(prepared: url, mode: mode) { return (base, url) }
    return try withFileLock(url.appendingPathExtension("lock")) {
      if let base = try? Base(prepared: url, mode: mode) { return (base, url) }
      removeUnfinished(url)
      try PreparedBaseWriter.write(source, sourceHash: hash, to: url, pool: pool, progress: progress)
      return (try Base(prepared: url, mode: mode), url)
    }
  }

  /// Makes the prepared file if it is missing or damaged, without mapping it: a few megabytes of it at a time.
  /// - Returns: where it lies, the base's fingerprint and the file's size in bytes
  public func prepare(
    _ source: any PublishedModel, pool: ThreadPool, progress: @escaping (Double) throws -> Void = { _ in }
  ) throws -> (location: URL, fingerprint: String, bytes: Int) {
    try createFolder()
    let hash = try sourceHash(source)
    let url = location(sourceHash: hash)
    return try withFileLock(url.appendingPathExtension("lock")) {
      let header: PreparedBaseHeader
      if let known = try? PreparedBaseHeader.verifyingAll(of: url) {
        header = known
      } else {
        removeUnfinished(url)
        try PreparedBaseWriter.write(source, sourceHash: hash, to: url, pool: pool, progress: progress)
        header = try PreparedBaseHeader(MappedFile(url))
      }
      return (url, header.fingerprint, header.sections.reduce(0) { $0 + $1.length })
    }
  }

  /// The fingerprint of a source's base, if its prepared file is there.
  /// - Throws: `ModelError` for a source that cannot be read
  public func preparedFingerprint(of source: any PublishedModel) throws -> String? {
    let url = location(sourceHash: try sourceHash(source))
    guard FileManager.default.fileExists(atPath: url.path) else { return nil }
    return try PreparedBaseHeader(MappedFile(url)).fingerprint
  }

  /// Removes unfinished files of this base that a crash left behind; they can have gigabytes. The caller holds the base's
  /// lock, so no process is writing one.
  private func removeUnfinished(_ url: URL) {
    let prefix = AtomicFile.temporaryPrefix(of: url)
    for name in (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? [] where name.hasPrefix(prefix) {
      try? FileManager.default.removeItem(at: folder.appending(path: name))
    }
  }

  private func createFolder() throws {
    try FolderAccess.createPrivate(folder.deletingLastPathComponent())
    try FolderAccess.create(folder)
  }

  // MARK: the source's hash

  /// What the store remembers of one file of a published model.
  private struct KnownFile: Codable, Equatable {
    /// The file's `FileIdentity` when it was hashed.
    var identity: String
    var hash: String
    /// The name of the prepared file that was made from the file's model.
    var prepared: String
  }

  /// The file with a `KnownFile` for each path.
  private var index: URL { folder.appending(path: "sources.json") }

  /// SHA-256 over the hashes of the source's files, each remembered for as long as the file looks unchanged.
  public func sourceHash(_ source: any PublishedModel) throws -> String {
    try createFolder()
    let known = (try? JSONDecoder().decode([String: KnownFile].self, from: Data(contentsOf: index))) ?? [:]
    var hashes: [(path: String, identity: String, hash: String)] = []
    var total = SHA256()
    for file in source.files.sorted(by: { $0.lastPathComponent < $1.lastPathComponent }) {
      let (path, identity) = (file.standardizedFileURL.path, try FileIdentity(file).text(separator: "|"))
      let hash = try known[path].flatMap { $0.identity == identity ? $0.hash : nil } ?? Self.hash(file)
      hashes.append((path, identity, hash))
      total.update("\(file.lastPathComponent)=\(hash);")
    }
    let sourceHash = total.finish()
    let prepared = location(sourceHash: sourceHash).lastPathComponent
    var current = known
    for file in hashes {
      current[file.path] = KnownFile(identity: file.identity, hash: file.hash, prepared: prepared)
    }
    if current != known { remember(current, preparing: prepared) }
    return sourceHash
  }

  /// Writes the remembered hashes, without those of files that are gone and of models whose prepared file is gone. If
  /// this file is lost, the hashes are only computed again.
  /// - Parameter prepared: the prepared file that is about to be made, which need not exist yet
  private func remember(_ files: [String: KnownFile], preparing prepared: String) {
    let kept = files.filter { path, file in
      file.prepared == prepared
        || [path, folder.appending(path: file.prepared).path].allSatisfy(FileManager.default.fileExists)
    }
    guard let text = try? JSONEncoder().encode(kept) else { return }
    try? AtomicFile.write(text, to: index)
  }

  private static func hash(_ file: URL) throws -> String {
    do { return try SHA256.of(file: file) } catch {
      throw ModelError(file.path, reason: "cannot be read: \(error.localizedDescription)")
    }
  }
}
