import Client
import Formats
import Foundation
import Testing

/// What the client makes of addresses, events and archives, hostile ones among them.
@Suite struct ClientTests {
  @Test(arguments: [
    ("localhost:8080", "http://localhost:8080"), ("http://h:1/", "http://h:1"), ("https://h/v1/", "https://h"),
    ("https://h/proxy", "https://h/proxy"),
  ])
  func addresses(given: String, wanted: String) throws {
    #expect(try HTTPClient(url: given, key: nil).address == wanted)
  }

  @Test(arguments: ["", "ftp://h", "http://", "http://h?x=1", "http://a b"])
  func whatIsNoAddress(given: String) {
    #expect(throws: ClientError.self) { try HTTPClient(url: given, key: nil) }
  }

  @Test func nothingListens() throws {
    let client = try HTTPClient(url: "http://127.0.0.1:9", key: nil)
    let error = #expect(throws: ClientError.self) { try client.send("GET", "/") }
    #expect(error?.description.contains("cannot be reached") == true && error?.status == nil)
    #expect(error?.description.contains("graft serve") == true)
  }

  @Test func namesArePercentEncoded() { #expect(HTTPClient.encoded("a/b:c@é ~") == "a%2Fb%3Ac%40%C3%A9%20~") }

  /// However the bytes are cut, the events are the same.
  @Test(arguments: 1...40) func eventsInPieces(size: Int) {
    let text = "event: x\ndata: {\"a\":1}\r\n\n: comment\ndata:{\"b\":\"é\"}\n\ndata: no JSON\n\ndata: [DONE]\n\n"
    let bytes = Array(text.utf8)
    var parser = EventParser()
    var events: [JSONValue] = []
    for start in stride(from: 0, to: bytes.count, by: size) {
      #expect(!parser.isDone || start + size >= bytes.count - 2)
      events += parser.add(Data(bytes[start..<min(start + size, bytes.count)]))
    }
    #expect(events == [["a": 1], ["b": "é"]] && parser.isDone)
  }

  /// An archive that tar made, with a name longer than a header's field.
  private func archive(_ names: [String]) throws -> Data {
    let folder = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
    defer { try? FileManager.default.removeItem(at: folder) }
    for name in names {
      let url = folder.appending(path: name)
      try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
      try Data("contents of \(name)".utf8).write(to: url)
    }
    let tar = Process()
    tar.executableURL = URL(filePath: "/usr/bin/tar")
    tar.arguments = ["-C", folder.path, "--format=pax", "-cf", folder.path + ".tar"] + names
    try tar.run()
    tar.waitUntilExit()
    defer { try? FileManager.default.removeItem(atPath: folder.path + ".tar") }
    return try Data(contentsOf: URL(filePath: folder.path + ".tar"))
  }

  @Test func archivesOfTar() throws {
    let long = String(repeating: "n", count: 180)
    let files = try TarArchive.files(of: archive(["a/adapter_config.json", "a/\(long)"]))
    #expect(files.map(\.name) == ["adapter_config.json", long])
    #expect(
      files.map { String(decoding: $0.data, as: UTF8.self) } == [
        "contents of a/adapter_config.json", "contents of a/\(long)",
      ])
  }

  @Test func archivesCutShort() throws {
    let whole = try archive(["a/b"])
    for length in [0, 511, 512, 700, 1023] {
      #expect(throws: ClientError.self) { try TarArchive.files(of: whole.prefix(length)) }
    }
  }

  @Test func archivesWithBadSizes() throws {
    let whole = try archive(["a"])
    // The header of the file follows pax's, which takes two blocks.
    let header = whole.count > 1536 && whole[156] == UInt8(ascii: "x") ? 1024 : 0
    for size in ["99999999999", "-0000000001", "zzzzzzzzzzz"] {
      var bytes = whole
      bytes.replaceSubrange(header + 124..<header + 135, with: Data(size.utf8))
      #expect(throws: ClientError.self) { try TarArchive.files(of: bytes) }
    }
  }

  @Test func aFileCannotLeaveTheFolder() throws {
    var bytes = [UInt8](repeating: 0, count: 1536)
    bytes.replaceSubrange(0..<12, with: Array("../../passwd".utf8))
    bytes.replaceSubrange(124..<135, with: Array("00000000000".utf8))
    #expect(try TarArchive.files(of: Data(bytes)).map(\.name) == ["passwd"])
    bytes.replaceSubrange(0..<12, with: Array("../../../.. ".utf8))
    #expect(throws: ClientError.self) { try TarArchive.files(of: Data(bytes)) }
  }
}
