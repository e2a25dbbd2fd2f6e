import Formats
import Foundation
import Model

/// An adapter's files as a tar archive, made chunk by chunk. All files are opened at the beginning, so the adapter may be
/// removed meanwhile.
struct AdapterArchive: BodySource {
  private struct Entry: Sendable {
    var header: [UInt8]
    var file: MappedFile
  }

  private let entries: [Entry]
  private var index = 0
  /// How many bytes of the file at `index` were returned; `nil` if its header was not returned yet.
  private var offset: Int?
  private var isOver = false
  private static let chunkSize = 256 << 10

  /// The archive of a version's PEFT files.
  /// - Parameter folder: the name of the archive's only folder
  /// - Throws: `ModelError` naming the file that is missing, or not as long as it was
  init(_ contents: AdapterContents, _ version: AdapterVersion, folder: String) throws {
    let location = contents.location(version.contentHash)
    try self.init(AdapterContents.fileNames, in: location, folder: folder, time: version.createdAt)
    let bytes = entries.reduce(0) { $0 + $1.file.count }
    guard bytes == version.fileBytes else {
      throw ModelError(location.path, reason: "damaged: \(bytes) bytes, and \(version.fileBytes) were stored")
    }
  }

  /// - Parameters:
  ///   - names: of the files
  ///   - location: the folder with the files
  ///   - folder: the name of the archive's only folder
  ///   - time: the files' time in the archive, in seconds since 1970
  /// - Throws: `ModelError` naming the file that is missing
  init(_ names: [String], in location: URL, folder: String, time: Int) throws {
    entries = try names.map { name in
      let file = try MappedFile(location.appending(path: name))
      let header = TarHeader.encode(name: "\(folder)/\(name)", size: file.count, time: time)
      return Entry(header: header, file: file)
    }
  }

  /// Bytes of the whole archive.
  var length: Int {
    entries.reduce(TarHeader.end.count) { sum, entry in
      sum + entry.header.count + entry.file.count + TarHeader.padding(after: entry.file.count).count
    }
  }

  /// The next chunk; `nil` at the end.
  /// - Throws: `ModelError` naming the file that cannot be read, or was shortened meanwhile
  mutating func next() throws -> [UInt8]? {
    guard index < entries.count else {
      defer { isOver = true }
      return isOver ? nil : TarHeader.end
    }
    let entry = entries[index]
    guard let offset else {
      self.offset = 0
      return entry.header
    }
    let count = min(Self.chunkSize, entry.file.count - offset)
    var bytes = try entry.file.read(offset: offset, count: count)
    self.offset = offset + count
    if offset + count == entry.file.count {
      bytes += TarHeader.padding(after: entry.file.count)
      index += 1
      self.offset = nil
    }
    return bytes
  }
}
