import Formats
import Foundation
import Model

/// What is known of an uploaded file.
struct StoredFile: Sendable, Equatable, Codable {
  var id: String
  var bytes: Int
  /// Seconds since 1970.
  var createdAt: Int
  var filename: String
  var purpose: String
}

/// Why a file cannot be had or kept.
enum FileStoreError: Error, Equatable, CustomStringConvertible {
  case unknown(String)
  case storage(String)

  var description: String {
    switch self {
    case .unknown(let id): "No such File object: \(id)"
    case .storage(let reason): reason
    }
  }
}

/// Uploaded files: the contents are in DATA/files under their ids, the records in the database. A file survives a power
/// loss once `add` has returned. All methods may wait for the disk.
public final class FileStore: Sendable {
  /// Maximum bytes of one file.
  public let sizeLimit: Int
  /// Days after which files are deleted; `nil` keeps them.
  private let daysKept: Int?
  let folder: URL
  let database: MetadataDatabase

  /// What the ids of files begin with.
  static let prefix = "file-"

  /// Removes uploads that were never finished, and files that are too old. Files without a record stay.
  /// - Throws: `ModelError` naming the folder that cannot be used
  public init(dataFolder: DataFolder, database: MetadataDatabase, sizeLimit: Int, daysKept: Int? = nil) throws {
    folder = dataFolder.url.appending(path: "files")
    self.database = database
    self.sizeLimit = sizeLimit
    self.daysKept = daysKept
    try FolderAccess.create(folder)
    for name in (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    where name.hasPrefix("." + Self.prefix) { try? FileManager.default.removeItem(at: location(name)) }
    removeOld()
  }

  /// Deletes files that were created more than this many days ago. Jobs have their own hard links, so they are not
  /// affected.
  /// - Returns: the files that were deleted
  /// - Throws: `ModelError` if the database cannot be read
  @discardableResult
  func prune(days: Int) throws -> [StoredFile] {
    let old = try database.files(before: Int(Date().timeIntervalSince1970) - days * 86_400)
    return old.filter { file in
      do throws(FileStoreError) { try remove(file.id) } catch { return false }
      return true
    }
  }

  /// Deletes old files as the setting says. A file that cannot be deleted now is tried again later.
  private func removeOld() {
    if let daysKept { _ = try? prune(days: daysKept) }
  }

  func location(_ id: String) -> URL { folder.appending(path: id) }

  static func makeID() -> String { RandomName.make(prefix, length: 24) }

  /// Records a file whose contents were written to `location(id)` and synced.
  func add(_ file: StoredFile) throws(FileStoreError) {
    removeOld()
    do { try database.insert(file) } catch {
      try? FileManager.default.removeItem(at: location(file.id))
      throw .storage("\(error)")
    }
  }

  /// Writes and records a file whose contents are in memory.
  func add(_ bytes: [UInt8], filename: String, purpose: String, createdAt: Int) throws(FileStoreError) -> StoredFile {
    let id = Self.makeID()
    do {
      try AtomicFile.write(bytes, to: location(id))
    } catch { throw .storage("\(error)") }
    let file = StoredFile(id: id, bytes: bytes.count, createdAt: createdAt, filename: filename, purpose: purpose)
    try add(file)
    return file
  }

  func file(_ id: String) throws(FileStoreError) -> StoredFile {
    let found: StoredFile?
    do { found = try database.file(id) } catch { throw .storage("\(error)") }
    guard let found else { throw .unknown(id) }
    return found
  }

  func remove(_ id: String) throws(FileStoreError) {
    let wasThere: Bool
    do { wasThere = try database.deleteFile(id) } catch { throw .storage("\(error)") }
    guard wasThere else { throw .unknown(id) }
    try? FileManager.default.removeItem(at: location(id))
  }
}

/// Ids that cannot be guessed.
enum RandomName {
  private static let alphabet = Array("abcdefghijklmnopqrstuvwxyz0123456789".utf8)

  /// - Parameter prefix: comes before `length` letters and digits, the first a letter
  static func make(_ prefix: String, length: Int) -> String {
    var random = SystemRandomNumberGenerator()
    let characters = (0..<length).map { index in
      alphabet[Int.random(in: 0..<(index == 0 ? 26 : alphabet.count), using: &random)]
    }
    return prefix + String(decoding: characters, as: UTF8.self)
  }
}
