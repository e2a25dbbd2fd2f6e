public import Foundation
import Testing

/// A folder for a test's files, which removes it when done.
public struct TemporaryFolder {
  public let url: URL

  public init() throws {
    url = FileManager.default.temporaryDirectory.appendingPathComponent("graft-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
  }

  public func remove() { try? FileManager.default.removeItem(at: url) }

  public func write(_ name: String, _ bytes: [UInt8]) throws -> URL {
    try Self.overwrite(url.appendingPathComponent(name), bytes)
  }

  public func write(_ name: String, _ text: String) throws -> URL { try write(name, Array(text.utf8)) }

  /// Not by Data.write, which waits for the disk; the fuzz tests write thousands of files.
  public static func overwrite(_ file: URL, _ bytes: [UInt8]) throws -> URL {
    let stream = try #require(fopen(file.path, "w"))
    defer { fclose(stream) }
    try #require(fwrite(bytes, 1, bytes.count, stream) == bytes.count)
    return file
  }
}
