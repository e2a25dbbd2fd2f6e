import Formats
import Foundation
import Model

/// A version's PEFT files as a tar archive, made piece by piece. The files are open from the beginning, so that deleting
/// the adapter meanwhile takes nothing away. Used by one thread after the other.
final class AdapterArchive: @unchecked Sendable {
  private struct Entry {
    var header: [UInt8]
    var file: MappedFile
  }

  private let entries: [Entry]
  private var index = 0
  /// How far the file at `index` was given; `nil` before its header.
  private var offset: Int?
  private var isOver = false
  private static let piece = 256 << 10

  /// - Parameter folder: what the archive's one folder is called
  /// - Throws: `ModelError` naming the file that is missing, or not as long as it was
  init(_ contents: AdapterContents, _ version: AdapterVersion, folder: String) throws {
    let location = contents.location(version.contentHash)
    entries = try AdapterContents.fileNames.map { name in
      let file = try MappedFile(location.appending(path: name))
      let header = TarHeader.encode(name: "\(folder)/\(name)", size: file.count, time: version.createdAt)
      return Entry(header: header, file: file)
    }
    let bytes = entries.reduce(0) { $0 + $1.file.count }
    guard bytes == version.fileBytes else {
      throw ModelError(location.path, reason: "damaged: \(bytes) bytes, and \(version.fileBytes) were stored")
    }
  }

  /// Bytes of the whole archive.
  var length: Int {
    entries.reduce(TarHeader.end.count) { sum, entry in
      sum + entry.header.count + entry.file.count + TarHeader.padding(after: entry.file.count).count
    }
  }

  /// The next piece; `nil` at the end.
  /// - Throws: `ModelError` naming the file that cannot be read, or was cut meanwhile
  func next() throws -> [UInt8]? {
    guard index < entries.count else {
      defer { isOver = true }
      return isOver ? nil : TarHeader.end
    }
    let entry = entries[index]
    guard let offset else {
      self.offset = 0
      return entry.header
    }
    let count = min(Self.piece, entry.file.count - offset)
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
