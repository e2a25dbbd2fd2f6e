import Foundation
import Glibc
import Testing

@testable import Serve

extension HTTPTests {
  /// Bodies that are sent in pieces and whose length is said beforehand.
  @Suite struct KnownLengths {
    /// `/n/a,b,…` says n bytes, sends a, b, … of them, and ends.
    private func server() throws -> HTTPTestServer {
      try HTTPTestServer { exchange in
        let path = exchange.request.path
        guard let length = path.first.flatMap({ Int($0) }) else {
          return exchange.respond(status: 200, body: Array("next".utf8))
        }
        exchange.startStreaming(status: 200, headers: ["Content-Type": "text/plain"], length: length)
        for count in path.dropFirst().first?.split(separator: ",").compactMap({ Int($0) }) ?? [] {
          exchange.write([UInt8](repeating: 0x2A, count: count))
        }
        exchange.end()
      }
    }

    @Test(arguments: ["/10/10", "/10/3,3,4", "/0/0", "/0", "/300000/100000,200000"])
    func theyAreWholeAndTheConnectionGoesOn(target: String) throws {
      let server = try server()
      let client = try server.client()
      let length = try #require(target.split(separator: "/").first.flatMap { Int($0) })
      let response = try client.get(target)
      #expect(response.headers["content-length"] == "\(length)" && response.headers["transfer-encoding"] == nil)
      #expect(response.body.count == length)
      #expect(try client.get("/next").text == "next")
    }

    /// One that ends early, or is given too much, breaks the connection; nothing follows that could be taken for its end.
    @Test(arguments: ["/10", "/10/9", "/300000/299999", "/10/11", "/10/6,6"], ["1.1", "1.0"])
    func othersBreakTheConnection(target: String, version: String) throws {
      let server = try server()
      let client = try server.client()
      try client.send("GET \(target) HTTP/\(version)\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n")
      let all = (try? client.receiveAll()) ?? []
      let text = String(decoding: all, as: UTF8.self)
      let length = try #require(target.split(separator: "/").first.flatMap { Int($0) })
      let body = text.components(separatedBy: "\r\n\r\n").dropFirst().joined()
      #expect(body.utf8.count < length && body.allSatisfy { $0 == "*" }, "\(body.utf8.count) of \(length)")
      #expect(server.drains())
    }

    @Test func aHeadHasTheLengthAlone() throws {
      let server = try server()
      let client = try server.client()
      try client.send("HEAD /10/3 HTTP/1.1\r\nHost: a\r\n\r\n")
      let response = try client.receiveResponse(toHead: true)
      #expect(response.headers["content-length"] == "10")
      #expect(try client.get("/next").text == "next")
    }

    /// A chunked stream that is broken off has no last chunk.
    @Test func aStreamThatIsBrokenOffHasNoEnd() throws {
      let server = try HTTPTestServer { exchange in
        exchange.startStreaming(status: 200)
        exchange.write(Array("half".utf8))
        exchange.abort()
      }
      let client = try server.client()
      try client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
      let text = String(decoding: (try? client.receiveAll()) ?? [], as: UTF8.self)
      #expect(!text.hasSuffix("0\r\n\r\n"))
      #expect(server.drains())
    }
  }
}
