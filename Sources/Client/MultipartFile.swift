public import Foundation

/// A form of files and fields (multipart/form-data), written to a temporary file so that large files are never in memory.
/// Deinit deletes it.
public final class MultipartFile: Sendable {
  /// Where the form is.
  public let url: URL
  /// With the boundary.
  public let contentType: String

  /// - Parameters:
  ///   - files: sent as `files`, under their own names
  ///   - fields: names and values
  /// - Throws: the system's error if a file cannot be read or the form cannot be written
  public init(files: [URL], fields: [(name: String, value: String)]) throws {
    let boundary = "graft-\(UUID().uuidString)"
    contentType = "multipart/form-data; boundary=\(boundary)"
    url = FileManager.default.temporaryDirectory.appending(path: boundary)
    guard FileManager.default.createFile(atPath: url.path, contents: nil, attributes: [.posixPermissions: 0o600]) else {
      throw ClientError("\(url.path) cannot be written: set TMPDIR to a folder with room for the upload")
    }
    let form = try FileHandle(forWritingTo: url)
    defer { try? form.close() }
    func add(_ text: String) throws { try form.write(contentsOf: Data(text.utf8)) }
    for (name, value) in fields {
      try add("--\(boundary)\r\nContent-Disposition: form-data; name=\"\(name)\"\r\n\r\n\(value)\r\n")
    }
    for file in files {
      let name = file.lastPathComponent
      try add("--\(boundary)\r\nContent-Disposition: form-data; name=\"files\"; filename=\"\(name)\"\r\n")
      try add("Content-Type: application/octet-stream\r\n\r\n")
      let source = try FileHandle(forReadingFrom: file)
      defer { try? source.close() }
      while let part = try source.read(upToCount: 4 << 20), !part.isEmpty { try form.write(contentsOf: part) }
      try add("\r\n")
    }
    try add("--\(boundary)--\r\n")
  }

  deinit { try? FileManager.default.removeItem(at: url) }
}
