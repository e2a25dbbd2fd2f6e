import Formats
import Foundation
import Logging
import TestSupport
import Testing

@testable import Model
@testable import Serve

/// What others may do with what is written: nothing, in a data folder.
@Suite struct FolderAccessTests {
  private let root = FileManager.default.temporaryDirectory.appending(path: "graft-\(UUID().uuidString)")
  private var files: FileManager { .default }

  private func bits(_ url: URL) throws -> Int {
    try #require(try files.attributesOfItem(atPath: url.path)[.posixPermissions] as? Int)
  }

  /// Paths below a folder, and the folder, that others than the owner may do anything with.
  private func open(_ folder: URL) throws -> [String] {
    let below = try files.subpathsOfDirectory(atPath: folder.path).map { folder.appending(path: $0) }
    return try ([folder] + below).filter { try bits($0) & 0o077 != 0 }.map(\.path)
  }

  @Test func allThatAStoreWritesIsItsOwnersAlone() throws {
    let setting = try StoreSetting()
    try setting.write("x")
    let store = try setting.open()
    try store.load(name: "x", path: "x")
    let files = try FileStore(
      dataFolder: DataFolder(root), database: MetadataDatabase(DataFolder(root.appending(path: "b"))), sizeLimit: 100)
    defer { try? self.files.removeItem(at: root) }
    _ = try files.add([1, 2], filename: "f", purpose: "fine-tune", createdAt: 1)
    let job = FineTuningFolder(url: setting.dataURL.appending(path: "jobs/ftjob-1"))
    let contents = setting.contentsURL.appending(path: try #require(setting.stored.first))
    try job.create(
      training: contents.appending(path: "adapter_config.json"), validation: nil, initial: contents)
    #expect(try open(setting.dataURL) == [])
    #expect(try open(root) == [])
    #expect(try bits(setting.dataURL) == 0o700)
    #expect(try bits(contents.appending(path: "adapter_model.safetensors")) == 0o600)
  }

  @Test func anOlderFolderIsTightened() throws {
    let setting = try StoreSetting()
    try setting.write("x")
    var store: AdapterStore? = try setting.open()
    try store?.load(name: "x", path: "x")
    store = nil
    let notes = setting.dataURL.appending(path: "notes")
    try Data("mine".utf8).write(to: notes)
    _ = try setting.lockFolder()
    for path in try [""] + files.subpathsOfDirectory(atPath: setting.dataURL.path) {
      let url = path.isEmpty ? setting.dataURL : setting.dataURL.appending(path: path)
      try files.setAttributes([.posixPermissions: try bits(url) & 0o100 != 0 ? 0o755 : 0o644], ofItemAtPath: url.path)
    }
    _ = try setting.open()
    #expect(try open(setting.dataURL) == [notes.path], "what is not Graft's stays as it is")
  }

  @Test func aFolderThatManyShareStaysAsItIs() throws {
    defer { try? files.removeItem(at: root) }
    try files.createDirectory(at: root, withIntermediateDirectories: true)
    try files.setAttributes([.posixPermissions: 0o1777], ofItemAtPath: root.path)
    #expect(try DataFolder(root).exposure?.contains("share") == true)
    #expect(try bits(root) == 0o1777)
    try files.setAttributes([.posixPermissions: 0o777], ofItemAtPath: root.path)
    #expect(try DataFolder(root).exposure == nil)
    #expect(try bits(root) == 0o700)
  }

  @Test func whatLiesInAnOpenFolderIsAsOpen() throws {
    defer { try? files.removeItem(at: root) }
    try files.createDirectory(at: root, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
    for (folderBits, fileBits) in [(0o755, 0o644), (0o750, 0o640), (0o700, 0o600), (0o777, 0o644)] {
      let parent = root.appending(path: "\(folderBits)")
      try files.createDirectory(at: parent, withIntermediateDirectories: false)
      try files.setAttributes([.posixPermissions: folderBits], ofItemAtPath: parent.path)
      let folder = parent.appending(path: "a/b")
      try FolderAccess.create(folder)
      let mask = umask(0)
      umask(mask)
      #expect(try bits(folder) == folderBits & ~Int(mask))
      let file = try AtomicFile(parent.appending(path: "file"))
      try file.finish()
      #expect(try bits(file.url) == fileBits)
    }
  }
}
