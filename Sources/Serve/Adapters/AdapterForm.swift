import Formats
import Foundation
import Model

/// The forms in which an adapter can be downloaded.
enum AdapterForm: String, CaseIterable, Sendable {
  /// The stored PEFT folder, byte for byte.
  case peft
  /// A GGUF file for llama.cpp.
  case gguf
  /// A folder for MLX-LM.
  case mlx

  /// Of the form's download: folders are sent as archives.
  var mediaType: String { self == .gguf ? "application/octet-stream" : "application/x-tar" }
}

/// An adapter in one of its forms, as the body of an answer. Other forms than PEFT's are written into a folder of the data
/// folder, opened, and deleted at once: the open files stay until they are sent.
enum AdapterDownload: BodySource {
  case archive(AdapterArchive)
  /// A file, of which `offset` bytes were returned.
  case file(MappedFile, offset: Int)

  private static let chunkSize = 256 << 10

  /// - Parameters:
  ///   - base: that the adapter was registered for
  ///   - folder: the name of the folder in an archive
  /// - Throws: `ModelError` naming the part of the adapter that is damaged or that the form cannot express
  init(
    _ form: AdapterForm, _ contents: AdapterContents, _ version: AdapterVersion, base: Base, folder: String
  ) throws {
    let source = contents.location(version.contentHash)
    if form == .peft {
      self = .archive(try AdapterArchive(contents, version, folder: folder))
      return
    }
    let staging = try contents.makeStaging()
    defer { contents.discard(staging) }
    let target = staging.appending(path: form.rawValue)
    func tables() -> BaseTables { BaseTables(base) }
    if form == .gguf {
      try AdapterExport.writeGGUF(source, config: base.config, tables: tables, to: target, name: folder)
      self = .file(try MappedFile(target), offset: 0)
    } else {
      try AdapterExport.writeMLX(source, config: base.config, tables: tables, to: target)
      let names = try FileManager.default.contentsOfDirectory(atPath: target.path).sorted()
      self = .archive(try AdapterArchive(names, in: target, folder: folder, time: version.createdAt))
    }
  }

  /// Bytes of the whole body.
  var length: Int {
    switch self {
    case .archive(let archive): archive.length
    case .file(let file, _): file.count
    }
  }

  /// The next chunk; `nil` at the end.
  /// - Throws: `ModelError` naming the file that cannot be read
  mutating func next() throws -> [UInt8]? {
    switch self {
    case .archive(var archive):
      defer { self = .archive(archive) }
      return try archive.next()
    case .file(let file, let offset):
      guard offset < file.count else { return nil }
      let count = min(Self.chunkSize, file.count - offset)
      self = .file(file, offset: offset + count)
      return try file.read(offset: offset, count: count)
    }
  }
}
