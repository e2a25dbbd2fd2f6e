import Foundation
import Logging
import Testing

@testable import Serve

extension HTTPTests {
  /// Downloads of files whose bytes are not, or no longer, what was stored.
  @Suite struct Downloads {
    private final class Setting {
      let url = FileManager.default.temporaryDirectory.appending(path: "graft-\(UUID().uuidString)")
      let store: FileStore
      let server: HTTPTestServer

      init() throws {
        let folder = try DataFolder(url)
        store = try FileStore(dataFolder: folder, database: try MetadataDatabase(folder), sizeLimit: 64 << 20)
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        var router = Router(apiKey: nil, unknownNames: UnknownNameLog(logger))
        FileRoutes(store: store, logger: logger, uploads: UploadService(), pools: BlockingPools()).add(to: &router)
        let table = router
        server = try HTTPTestServer { table.handle($0) }
      }

      deinit { try? FileManager.default.removeItem(at: url) }

      func add(_ count: Int) throws -> String {
        try store.add([UInt8](repeating: 0x61, count: count), filename: "a.jsonl", purpose: "fine-tune", createdAt: 1)
          .id
      }

      func cut(_ id: String, to count: Int) throws {
        let handle = try FileHandle(forWritingTo: store.location(id))
        try handle.truncate(atOffset: UInt64(count))
        try handle.close()
      }
    }

    @Test(arguments: [0, 1, 256 << 10, (3 << 20) + 7])
    func theyAreWhole(count: Int) throws {
      let setting = try Setting()
      let id = try setting.add(count)
      let client = try setting.server.client()
      for _ in 0..<2 {
        let response = try client.get("/v1/files/\(id)/content")
        #expect(response.status == 200 && response.headers["content-length"] == "\(count)")
        #expect(response.body == [UInt8](repeating: 0x61, count: count))
      }
      try client.send("HEAD /v1/files/\(id)/content HTTP/1.1\r\nHost: a\r\n\r\n")
      #expect(try client.receiveResponse(toHead: true).headers["content-length"] == "\(count)")
    }

    @Test(arguments: [0, 100])
    func whatWasCutOffBeforeIsBrokenOff(count: Int) throws {
      let setting = try Setting()
      let id = try setting.add(1000)
      try setting.cut(id, to: count)
      let client = try setting.server.client()
      try client.send("GET /v1/files/\(id)/content HTTP/1.1\r\nHost: a\r\n\r\n")
      #expect(try client.receiveHead().headers["content-length"] == "1000")
      #expect(((try? client.receiveAll()) ?? []).count <= count)
      #expect(setting.server.drains())
    }

    @Test func whatIsGoneIsAnError() throws {
      let setting = try Setting()
      let id = try setting.add(1000)
      try FileManager.default.removeItem(at: setting.store.location(id))
      let response = try setting.server.client().get("/v1/files/\(id)/content")
      #expect(response.status == 500 && response.text.contains(id))
    }

    /// The connection breaks before the length that was said is reached.
    @Test func whatIsCutOffMeanwhileIsBrokenOff() throws {
      let setting = try Setting()
      let count = 32 << 20
      let id = try setting.add(count)
      let client = try setting.server.client(receiveBuffer: 65536)
      try client.send("GET /v1/files/\(id)/content HTTP/1.1\r\nHost: a\r\n\r\n")
      let head = try client.receiveHead()
      #expect(head.headers["content-length"] == "\(count)")
      try setting.cut(id, to: 1 << 20)
      let body = (try? client.receiveAll()) ?? []
      #expect(body.count < count && body.allSatisfy { $0 == 0x61 })
      #expect(setting.server.drains())
      // The server goes on.
      #expect(try setting.server.client().get("/v1/files").status == 200)
    }
  }
}
