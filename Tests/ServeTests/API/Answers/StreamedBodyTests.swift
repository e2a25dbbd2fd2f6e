import Formats
import Foundation
import Testing

@testable import Model
@testable import Serve

extension HTTPTests {
  /// Bodies in pieces: whole, or visibly broken off.
  @Suite struct StreamedBodyTests {
    private struct Broken: Error {}

    /// A server whose body has so many pieces of 100,000 bytes, and fails after some.
    private func server(pieces: Int, failingAfter: Int? = nil, length: Int?) throws -> HTTPTestServer {
      let pool = WorkerPool(label: "test", threads: 1)
      return try HTTPTestServer { exchange in
        StreamedBody(Pieces(count: pieces, failingAfter: failingAfter), to: exchange, on: pool)
          .start(headers: [:], length: length)
      }
    }

    private struct Pieces: BodySource {
      let count: Int
      let failingAfter: Int?
      var made = 0

      mutating func next() throws -> [UInt8]? {
        if made == failingAfter { throw Broken() }
        guard made < count else { return nil }
        made += 1
        return [UInt8](repeating: UInt8(made), count: 100_000)
      }
    }

    @Test func aWholeBodyEndsAndTheConnectionGoesOn() throws {
      for length in [3_000_000, nil] {
        let server = try server(pieces: 30, length: length)
        let client = try server.client()
        for _ in 0..<2 {
          let response = try client.get("/")
          #expect(response.body.count == 3_000_000 && response.body.last == 30)
          #expect(response.headers["content-length"] == length.map(String.init))
        }
        try client.send("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        #expect(try client.receiveResponse(toHead: true).headers["content-length"] == length.map(String.init))
        #expect(try client.get("/").body.count == 3_000_000)
      }
    }

    /// Neither its length is reached nor its last chunk comes.
    @Test func anErrorBreaksTheConnectionOff() throws {
      for (length, version) in [(3_000_000, "1.1"), (nil, "1.1"), (3_000_000, "1.0")] {
        let server = try server(pieces: 30, failingAfter: 7, length: length)
        let client = try server.client()
        try client.send("GET / HTTP/\(version)\r\nHost: x\r\n\r\n")
        #expect(try client.receiveHead().headers["content-length"] == length.map(String.init))
        let rest = try client.receiveAll()
        #expect(rest.count < 800_000 && !rest.suffix(7).elementsEqual("\r\n0\r\n\r\n".utf8))
      }
    }

    /// A body that ends before its length is none.
    @Test func aShortBodyIsBrokenOff() throws {
      let server = try server(pieces: 3, length: 400_000)
      let client = try server.client()
      try client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
      #expect(try client.receiveHead().status == 200)
      #expect(try client.receiveAll().count <= 300_000)
    }

    // MARK: lists

    private func list(_ count: Int) throws -> HTTPTestServer {
      let names = (0..<count).map { String(format: "n%06d", $0) }
      let pool = WorkerPool(label: "test", threads: 1)
      return try HTTPTestServer { exchange in
        do throws(APIError) {
          let list = try NameList(PageQuery(exchange))
          let first = list.after == nil ? [(name: "base", json: JSONValue.string("base"))] : []
          list.answer(exchange, on: pool, after: list.after, first: first, more: [("more", .integer(7))]) {
            after, limit in
            let left = names.drop { name in after.map { name <= $0 } ?? false }
            return Page(
              elements: left.prefix(limit).map { (name: $0, json: .string($0)) }, hasMore: left.count > limit)
          }
        } catch { exchange.respond(error) }
      }
    }

    private func get(_ client: HTTPTestClient, _ query: String) throws -> (data: [String], json: JSONObject) {
      let json = try #require(try JSONValue.parse(client.get("/" + query).body, subject: "list").object)
      return (try #require(json["data"]?.array).compactMap(\.string), json)
    }

    @Test func aListIsWholeUnlessALimitIsAskedFor() throws {
      for count in [0, 1, 499, 500, 501, 3000] {
        let server = try list(count)
        let client = try server.client()
        let (data, json) = try get(client, "")
        #expect(data.count == count + 1 && data.first == "base" && json["has_more"] == .bool(false))
        #expect(json["first_id"] == "base" && json["last_id"]?.string == data.last && json["more"] == .integer(7))
        for limit in [1, 2, 500, 999] {
          var (seen, query, pages): ([String], String, Int) = ([], "?limit=\(limit)", 0)
          while pages < 4000 {
            let (data, json) = try get(client, query)
            #expect(data.count <= limit && json["last_id"]?.string == data.last)
            seen += data
            pages += 1
            guard json["has_more"] == .bool(true), let last = data.last else { break }
            query = "?limit=\(limit)&after=\(last == "base" ? "a" : last)"
          }
          #expect(seen == data && pages == max((count + limit) / limit, 1), "\(count) by \(limit)")
        }
        for wrong in ["0", "-1", "x", "10001", ""] { #expect(try client.get("/?limit=\(wrong)").status == 400) }
      }
    }
  }
}
