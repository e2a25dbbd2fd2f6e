import Formats
import Foundation
import TestSupport
import Testing

@testable import Model
@testable import Serve

@Suite struct TarTests {
  private var files: FileManager { .default }

  /// What tar(1) unpacks from an archive, by path.
  private func unpacked(_ archive: [UInt8]) throws -> [String: [UInt8]] {
    let folder = files.temporaryDirectory.appending(path: "graft-\(UUID().uuidString)")
    try files.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? files.removeItem(at: folder) }
    let file = folder.appending(path: "archive.tar")
    try Data(archive).write(to: file)
    let tar = Process()
    tar.executableURL = URL(filePath: "/usr/bin/env")
    tar.arguments = ["tar", "-C", folder.path, "-xf", file.path]
    let errors = Pipe()
    tar.standardError = errors
    try tar.run()
    let said = errors.fileHandleForReading.readDataToEndOfFile()
    tar.waitUntilExit()
    #expect(tar.terminationStatus == 0 && said.isEmpty, "\(String(decoding: said, as: UTF8.self))")
    try files.removeItem(at: file)
    var contents: [String: [UInt8]] = [:]
    for path in try files.subpathsOfDirectory(atPath: folder.path) {
      let url = folder.appending(path: path)
      var isFolder: ObjCBool = false
      if files.fileExists(atPath: url.path, isDirectory: &isFolder), isFolder.boolValue { continue }
      contents[path] = [UInt8](try Data(contentsOf: url))
    }
    return contents
  }

  @Test func tarReadsNamesOfEveryLength() throws {
    let long = String(repeating: "n", count: 120)
    let names = [
      "a", "ft:m:graft::x/adapter_config.json", long, "c" + long + "/b", "e/" + long, "b" + long + "/" + long,
      String(repeating: "d/", count: 100) + "e", String(repeating: "n", count: 99), String(repeating: "n", count: 100),
      String(repeating: "m", count: 101), String(repeating: "k", count: 156) + "/f",
    ]
    var archive: [UInt8] = []
    var expected: [String: [UInt8]] = [:]
    for (size, name) in names.enumerated() {
      let body = [UInt8](repeating: UInt8(size), count: size * 170)
      archive += TarHeader.encode(name: name, size: body.count, time: 1_700_000_000) + body
      archive += TarHeader.padding(after: body.count)
      expected[name] = body
    }
    #expect(try unpacked(archive + TarHeader.end) == expected)
  }

  @Test func whatDoesNotFitIsSaidByPax() {
    let header = TarHeader.encode(name: "a", size: 1 << 40, time: 1)
    #expect(header.count == 3 * 512)
    #expect(String(decoding: header[512..<540], as: UTF8.self).hasPrefix("22 size=1099511627776\n"))
  }

  @Test func anArchiveHoldsTheVersionsFiles() throws {
    let setting = try StoreSetting()
    try setting.write("x", rank: 40)
    let store = try setting.open()
    let version = try #require(try store.load(name: "org/x", path: "x").current)
    var archive = try AdapterArchive(store.contents, version, folder: "org/x")
    // The files were opened; what happens to their names no longer matters.
    try store.remove(name: "org/x")
    var bytes: [UInt8] = []
    while let piece = try archive.next() { bytes += piece }
    #expect(bytes.count == archive.length && bytes.count % 512 == 0)
    #expect(try archive.next() == nil)
    let contents = try unpacked(bytes)
    let source = setting.model.adaptersFolder.appending(path: "x")
    #expect(contents.count == 2)
    for name in AdapterContents.fileNames {
      #expect(try contents["org/x/\(name)"] == [UInt8](Data(contentsOf: source.appending(path: name))))
    }
  }

  @Test func filesThatWereCutAreAnError() throws {
    let setting = try StoreSetting()
    try setting.write("x")
    let store = try setting.open()
    let version = try #require(try store.load(name: "x", path: "x").current)
    var archive = try AdapterArchive(store.contents, version, folder: "x")
    let weights = store.contents.location(version.contentHash).appending(path: "adapter_model.safetensors")
    try FileHandle(forWritingTo: weights).truncate(atOffset: 100)
    #expect(throws: ModelError.self) { while try archive.next() != nil {} }
    #expect(throws: ModelError.self) { try AdapterArchive(store.contents, version, folder: "x") }
  }
}
