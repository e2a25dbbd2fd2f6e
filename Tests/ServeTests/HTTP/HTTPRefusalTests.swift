import Serve
import TestSupport
import Testing

extension HTTPTests {
  @Suite struct Refusals {
    /// A request as it is sent, and the status it must get.
    struct Case: CustomTestStringConvertible, Sendable {
      var request: String
      var status: Int
      var testDescription: String { "\(status): \(request.prefix(90).debugDescription)" }
    }

    static let chunkedHead = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

    static let malformed: [Case] = [
      "GET\r\n\r\n", "GET /\r\n\r\n", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
      " GET / HTTP/1.1\r\nHost: a\r\n\r\n", "G\u{1}T / HTTP/1.1\r\nHost: a\r\n\r\n",
      "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
      "GET /\u{7F} HTTP/1.1\r\nHost: a\r\n\r\n", "GET /é HTTP/1.1\r\nHost: a\r\n\r\n",
      "GET / http/1.1\r\nHost: a\r\n\r\n",
      "GET / HTTP/1.10\r\nHost: a\r\n\r\n", "GET / HTTP/11\r\nHost: a\r\n\r\n", "GET / HTTP/x.1\r\nHost: a\r\n\r\n",
      "GET a HTTP/1.1\r\nHost: a\r\n\r\n", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
      "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
      "GET /% HTTP/1.1\r\nHost: a\r\n\r\n", "GET /%4 HTTP/1.1\r\nHost: a\r\n\r\n",
      "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
      "GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", "GET /%ff HTTP/1.1\r\nHost: a\r\n\r\n",
      "GET /?%ff HTTP/1.1\r\nHost: a\r\n\r\n",
      "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\nX Y: 1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX\u{0}: 1\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\nX: \u{0}\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
      "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}", "\n", "\r\r\n",
    ].map { Case(request: $0, status: 400) }

    static let smuggling: [Case] =
      [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "Content-Length: 3\r\nContent-Length: 4\r\n", "Content-Length: 3, 3\r\n", "Content-Length: +3\r\n",
        "Content-Length: -3\r\n", "Content-Length: 0x3\r\n", "Content-Length: 3 4\r\n", "Content-Length:\r\n",
        "Content-Length: 99999999999999999999\r\n", "Content-Length : 3\r\n", "Content-Length\t: 3\r\n",
        "Content-Length:\r\n 3\r\n", "X: a\r\n Content-Length: 3\r\n", "X: a\r\n\tb\r\nContent-Length: 3\r\n",
        "Transfer-Encoding : chunked\r\n", "Transfer-Encoding:\r\n", "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", " Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\nContent-Length: 3\r\n", "Content-Length: 3\n",
        "X: a\u{0B}\r\nContent-Length: 3\r\n",
      ].map { Case(request: "POST / HTTP/1.1\r\nHost: a\r\n\($0)\r\n3\r\nabc\r\n0\r\n\r\n", status: 400) }
      + [
        "Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding: xchunked\r\n", "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
      ].map { Case(request: "POST / HTTP/1.1\r\nHost: a\r\n\($0)\r\n0\r\n\r\n", status: 501) }
      + [
        Case(request: "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", status: 400)
      ]

    static let chunked: [Case] = [
      ";\r\n", "\r\n", "x\r\n", "-1\r\n", "+1\r\na\r\n", " 1\r\na\r\n", "0x1\r\na\r\n", "1 \r\na\r\n", "1\na\r\n",
      "1\r\nab\r\n", "1\r\na\n0\r\n\r\n", "1\r\na\rx", "1\r\naXX0\r\n\r\n", "FFFFFFFFFFFFFFFF\r\n",
      "8000000000000000\r\n",
      "1;\u{1}\r\na", "0\r\nX: \u{0}\r\n\r\n", "0\r\n\rX", "1;a\nb\r\n", "0000000000000000\r\n",
    ].map { Case(request: chunkedHead + $0, status: 400) }

    static let sizes: [Case] = [
      Case(request: "GET /\(String(repeating: "a", count: 20000)) HTTP/1.1\r\nHost: a\r\n\r\n", status: 414),
      Case(request: String(repeating: "A", count: 20000), status: 414),
      Case(request: "GET / HTTP/1.1\r\nHost: a\r\nX: \(String(repeating: "a", count: 70000))\r\n\r\n", status: 431),
      Case(
        request: "GET / HTTP/1.1\r\nHost: a\r\n\(String(repeating: "X: y\r\n", count: 100))\r\n", status: 431),
      Case(request: "GET / HTTP/2.0\r\nHost: a\r\n\r\n", status: 505),
      Case(request: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", status: 505),
      Case(request: "GET / HTTP/0.9\r\nHost: a\r\n\r\n", status: 505),
      Case(
        request:
          chunkedHead + "1;\(String(repeating: "a", count: 2000))\r\n",
        status: 400),
      Case(
        request:
          chunkedHead + "0\r\nX: \(String(repeating: "a", count: 9000))",
        status: 431),
    ]

    static let accepted: [Case] = [
      "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost:\r\n\r\n",
      "GET / HTTP/1.7\r\nHost: a\r\n\r\n",
      "M-SEARCH / HTTP/1.1\r\nhOST:a\r\n\r\n", "GET / HTTP/1.1\r\nHost: [::1]:80\r\nX: é\t \r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 003\r\nContent-Length: 003\r\n\r\nabc",
      "GET / HTTP/1.1\r\nHost: a\r\n\(String(repeating: "X: y\r\n", count: 99))\r\n",
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: , chunked\r\n\r\n0\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n000000000000001\r\na\r\n0;x=y\r\n\r\n",
    ].map { Case(request: $0, status: 200) }

    @Test func everyCaseGetsItsStatus() throws {
      let server = try HTTPTestServer { exchange in
        exchange.collectBody { _ in exchange.respond(status: 200) }
      }
      for item in Self.malformed + Self.smuggling + Self.chunked + Self.sizes {
        let client = try server.client()
        try client.send(item.request)
        let response = try client.receiveResponse()
        #expect(response.status == item.status, "\(item.testDescription) got \(response.text)")
        #expect(response.headers["connection"] == "close", "\(item.testDescription)")
        #expect(response.text.hasPrefix(#"{"error":{"message":"#), "\(item.testDescription)")
        #expect(try client.receive().isEmpty, "\(item.testDescription): more came after the refusal")
      }
      for item in Self.accepted {
        let client = try server.client()
        try client.send(item.request)
        #expect(try client.receiveResponse().status == 200, "\(item.testDescription)")
        #expect(try client.get("/").status == 200, "\(item.testDescription): the connection was not kept")
      }
      #expect(server.drains())
    }

    @Test func aRefusalComesAfterEarlierAnswers() throws {
      let server = try HTTPTestServer(handler: standardHandler)
      let client = try server.client()
      try client.send(
        "GET /hello HTTP/1.1\r\nHost: a\r\n\r\nGET /hello HTTP/1.1\r\n\r\nGET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
      #expect(try client.receiveResponse().status == 200)
      #expect(try client.receiveResponse().status == 400)
      #expect(try client.receive().isEmpty)
    }

    /// Splits, mutates and repeats valid requests at random, and throws plain noise in between.
    @Test func noiseNeitherCrashesNorHangs() throws {
      var random = TinyRandom(seed: 0x6EED)
      let server = try HTTPTestServer({ $0.headerTimeout = .milliseconds(300) }, handler: standardHandler)
      let seeds = (Self.accepted + Self.malformed + Self.smuggling + Self.chunked).map { Array($0.request.utf8) }
      for _ in 0..<600 {
        var bytes: [UInt8] = []
        for _ in 0...random.next(below: 3) {
          var piece = seeds[random.next(below: seeds.count)]
          for _ in 0..<random.next(below: 4) {
            guard !piece.isEmpty else { break }
            let position = random.next(below: piece.count)
            switch random.next(below: 4) {
            case 0: piece[position] = UInt8(random.next(below: 256))
            case 1: piece.remove(at: position)
            case 2: piece.insert(contentsOf: Array("\r\n".utf8), at: position)
            default: piece.removeSubrange(position...)
            }
          }
          bytes += piece
        }
        if random.next(below: 5) == 0 {
          bytes = (0..<random.next(below: 3000)).map { _ in UInt8(random.next(below: 256)) }
        }
        let client = try server.client()
        let cut = bytes.isEmpty ? 0 : random.next(below: bytes.count)
        // The server may have closed by the second half.
        try? client.send(Array(bytes[..<cut]))
        try? client.send(Array(bytes[cut...]))
        switch random.next(below: 4) {
        case 0: client.reset()
        case 1: client.close()
        default:
          client.shutdownSending()
          // Answers or none, but an end.
          _ = try client.receiveAll()
        }
      }
      #expect(server.drains())
      #expect(try server.client().get("/hello").text == "hello")
    }
  }
}

extension TinyRandom {
  fileprivate mutating func next(below bound: Int) -> Int { Int.random(in: 0..<bound, using: &self) }
}
