import Console
import Foundation
import Logging
import Testing

@testable import Serve

/// The console's files as the server gives them out.
@Suite struct ConsoleRoutesTests {
  private func server(apiKey: String? = nil) throws -> HTTPTestServer {
    var router = Router(apiKey: apiKey, unknownNames: UnknownNameLog(Logger(label: "test")))
    ConsoleRoutes.add(to: &router)
    let routes = router
    return try HTTPTestServer { routes.handle($0) }
  }

  @Test func thePageAndItsFilesNeedNoKey() throws {
    let server = try server(apiKey: "secret")
    let client = try server.client()
    let page = try client.get("/")
    #expect(page.status == 200 && page.text.hasPrefix("<!doctype html>"))
    #expect(page.headers["content-type"] == "text/html; charset=utf-8")
    for name in ConsolePage.names {
      let response = try client.get("/console/\(name)")
      let type = name.hasSuffix(".css") ? "text/css" : "text/javascript"
      #expect(response.status == 200 && response.body == ConsolePage.file(named: name)?.bytes, "\(name)")
      #expect(response.headers["content-type"] == "\(type); charset=utf-8", "\(name)")
      #expect(response.headers["content-security-policy"] == ConsolePage.securityPolicy, "\(name)")
      #expect(response.headers["x-content-type-options"] == "nosniff", "\(name)")
    }
    for target in ["/console/none.js", "/console/", "/console/a/main.js", "/console/..%2Findex.html"] {
      #expect(try client.get(target).status != 200, "\(target)")
    }
  }

  @Test func anUnchangedFileIsNotSentAgain() throws {
    let server = try server()
    let client = try server.client()
    let tag = try #require(try client.get("/").headers["etag"])
    for value in [tag, "W/\(tag)", "\"other\", \(tag)", "*"] {
      let response = try client.get("/", headers: "If-None-Match: \(value)\r\n")
      #expect(response.status == 304 && response.body.isEmpty && response.headers["etag"] == tag, "\(value)")
    }
    #expect(try client.get("/", headers: "If-None-Match: \"other\"\r\n").status == 200)
    let tags = Set(ConsolePage.names.map { ConsolePage.file(named: $0)?.entityTag })
    #expect(tags.count == ConsolePage.names.count)
  }

  @Test func compressedWhereTheClientAcceptsIt() throws {
    let server = try server()
    let client = try server.client()
    let plain = try client.get("/console/main.js")
    #expect(plain.headers["content-encoding"] == nil && plain.headers["vary"] == "Accept-Encoding")
    for accepted in ["gzip", "GZIP;q=0.5", "br, x-gzip", "deflate, *", "*;q=0, gzip"] {
      let response = try client.get("/console/main.js", headers: "Accept-Encoding: \(accepted)\r\n")
      #expect(response.headers["content-encoding"] == "gzip" && response.headers["vary"] == "Accept-Encoding")
      #expect(response.body.count < plain.body.count && response.body.starts(with: [0x1F, 0x8B]), "\(accepted)")
      #expect(try gunzip(response.body) == plain.body, "\(accepted)")
      // The tag of one form says nothing of the other.
      let tag = try #require(response.headers["etag"])
      #expect(tag != plain.headers["etag"])
      let known = "If-None-Match: \(tag)\r\n"
      #expect(try client.get("/console/main.js", headers: known).status == 200)
      let both = known + "Accept-Encoding: \(accepted)\r\n"
      #expect(try client.get("/console/main.js", headers: both).status == 304)
    }
    for refused in ["identity", "gzip;q=0", "gzip; q=0.000, br", "*;q=0", "gzip;q=many", "gzipped", ""] {
      let response = try client.get("/console/main.js", headers: "Accept-Encoding: \(refused)\r\n")
      #expect(response.headers["content-encoding"] == nil && response.body == plain.body, "\(refused)")
    }
  }

  /// What gzip(1) makes of bytes.
  private func gunzip(_ bytes: [UInt8]) throws -> [UInt8] {
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = ["gzip", "-dc"]
    let (input, output) = (Pipe(), Pipe())
    (process.standardInput, process.standardOutput) = (input, output)
    try process.run()
    // The input is smaller than a pipe's buffer.
    try input.fileHandleForWriting.write(contentsOf: bytes)
    try input.fileHandleForWriting.close()
    let text = try output.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
    return Array(text)
  }

  /// Every file of the folder is in the list, every reference between files names one, and nothing is fetched from elsewhere.
  @Test func theFilesReferToOneAnother() throws {
    let folder = URL(filePath: #filePath).appending(path: "../../../../../Sources/Console/Files").standardized
    let paths = try FileManager.default.subpathsOfDirectory(atPath: folder.path).filter { $0.contains(".") }
    #expect(Set(paths.map { URL(filePath: $0).lastPathComponent }) == Set(ConsolePage.names + ["index.html"]))
    let files = ConsolePage.names.compactMap(ConsolePage.file) + [ConsolePage.index]
    for file in files {
      let text = String(decoding: file.bytes, as: UTF8.self)
      for match in text.matches(of: /["']\/console\/([^"']+)["']/) {
        #expect(ConsolePage.file(named: String(match.1)) != nil, "\(file.name) refers to \(match.1)")
      }
      for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "https://"] {
        #expect(!text.contains(word), "\(file.name) has \(word)")
      }
    }
  }
}
