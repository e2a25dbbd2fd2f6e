import Formats
import Foundation
import Model

/// Reads the lines of a file of any size, without their line feeds, in chunks.
struct LineReader {
  /// The number of the line that `next` returned last, from 1.
  private(set) var number = 0
  private let file: MappedFile
  private let name: String
  private var offset: Int
  private var buffer: [UInt8] = []
  /// Where the next line begins in the buffer, and the end of the bytes that were already searched for a line feed.
  private var start = 0
  private var searched = 0

  private static let chunkSize = 1 << 20
  /// The maximum length of a line in bytes, far more than any context needs.
  static let longestLine = 64 << 20

  /// - Parameters:
  ///   - offset: where the first line begins
  ///   - name: what errors call the file
  init(_ file: MappedFile, from offset: Int, name: String) {
    self.file = file
    self.offset = offset
    self.name = name
  }

  /// - Returns: `nil` at the file's end
  /// - Throws: `DataFileError` for a line that is too long, `ModelError` where the file cannot be read
  mutating func next() throws -> ArraySlice<UInt8>? {
    while true {
      if let end = buffer[searched...].firstIndex(of: UInt8(ascii: "\n")) {
        let line = buffer[start..<end]
        (start, searched) = (end + 1, end + 1)
        number += 1
        return line
      }
      searched = buffer.count
      if offset == file.count {
        guard start < buffer.count else { return nil }
        let line = buffer[start...]
        start = buffer.count
        number += 1
        return line
      }
      guard buffer.count - start <= Self.longestLine else {
        throw DataFileError(
          file: name,
          reason: "line \(number + 1) has more than \(Self.longestLine >> 20) MiB: no row of JSONL is so long")
      }
      buffer.removeSubrange(..<start)
      (start, searched) = (0, buffer.count)
      let count = min(Self.chunkSize, file.count - offset)
      buffer += try file.read(offset: offset, count: count)
      offset += count
    }
  }
}
