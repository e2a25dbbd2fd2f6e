import Glibc
@testable import Serve
import Testing

extension HTTPTests {
  @Suite struct Basics {
    @Test func keepAliveServesManyRequestsOnOneConnection() throws {
      let server = try HTTPTestServer(handler: standardHandler)
      let client = try server.client()
      for _ in 0..<50 {
        let response = try client.get("/hello")
        #expect(response.status == 200)
        #expect(response.text == "hello")
        #expect(response.headers["content-length"] == "5")
        #expect(response.headers["server"] == "graft")
        #expect(response.headers["connection"] == nil)
        #expect(response.headers["date"]?.hasSuffix(" GMT") == true)
      }
    }

    @Test func connectionCloseIsHonoured() throws {
      let server = try HTTPTestServer(handler: standardHandler)
      let client = try server.client()
      let response = try client.get("/hello", headers: "Connection: foo, Close\r\n")
      #expect(response.headers["connection"] == "close")
      #expect(try client.receive().isEmpty)
    }

    @Test func http10ClosesUnlessAskedToKeep() throws {
      let server = try HTTPTestServer(handler: standardHandler)
      let closing = try server.client()
      try closing.send("GET /hello HTTP/1.0\r\n\r\n")
      #expect(try closing.receiveResponse().headers["connection"] == "close")
      #expect(try closing.receive().isEmpty)

      let keeping = try server.client()
      for _ in 0..<3 {
        try keeping.send("GET /hello HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
        let response = try keeping.receiveResponse()
        #expect(response.headers["connection"] == "keep-alive")
        #expect(response.text == "hello")
      }
      // Without chunks the end of the body is the end of the connection.
      try keeping.send("GET /stream?n=3 HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
      let streamed = try keeping.receiveResponse()
      #expect(streamed.headers["transfer-encoding"] == nil)
      #expect(streamed.headers["connection"] == "close")
      #expect(streamed.text == "0,1,2,")
    }

    @Test func headHasTheHeadersOnly() throws {
      let server = try HTTPTestServer(handler: standardHandler)
      let client = try server.client()
      try client.send("HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\nHEAD /stream?n=9 HTTP/1.1\r\nHost: a\r\n\r\n")
      try client.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
      #expect(try client.receiveResponse(toHead: true).headers["content-length"] == "5")
      #expect(try client.receiveResponse(toHead: true).headers["transfer-encoding"] == "chunked")
      // Were there a body, it would stand before this.
      #expect(try client.receiveResponse().text == "hello")
    }

    @Test func noContentHasNoBody() throws {
      let server = try HTTPTestServer { exchange in exchange.respond(status: 204, body: Array("lost".utf8)) }
      let client = try server.client()
      for _ in 0..<2 {
        let response = try client.get("/")
        #expect(response.status == 204)
        #expect(response.headers["content-length"] == nil)
      }
    }

    @Test func theRequestIsTakenApart() throws {
      let seen = Box<HTTPRequestHead?>(nil)
      let server = try HTTPTestServer { exchange in
        seen.value = exchange.request
        exchange.respond(status: 200)
      }
      let client = try server.client()
      _ = try client.get(
        "/v1/a%2Fb/%C3%A9?adapter=x%3A0.5,y&q=a+b&flag&=v&adapter=z", headers: "X-A: 1\r\nx-a:  2 \r\nX-B:\r\n")
      let request = try #require(seen.value)
      #expect(request.method == "GET")
      #expect(request.path == ["v1", "a/b", "é"])
      #expect(request.rawQuery == "adapter=x%3A0.5,y&q=a+b&flag&=v&adapter=z")
      #expect(request.queryItems.map(\.name) == ["adapter", "q", "flag", "", "adapter"])
      #expect(request.queryItems.map(\.value) == ["x:0.5,y", "a b", "", "v", "z"])
      #expect(request.headers.values("X-a") == ["1", "2"])
      #expect(request.headers["x-b"] == "")
      #expect(request.remoteAddress == "127.0.0.1")
      #expect(request.version == .http1_1)

      for (target, path) in [
        ("/", []), ("/a/", ["a", ""]), ("http://host:1/a?b", ["a"]), ("HTTP://host", []), ("http://h?b", [""]),
        ("*", []),
      ] as [(String, [String])] {
        _ = try client.get(target)
        #expect(seen.value?.path == path.filter { target != "http://h?b" || !$0.isEmpty })
      }
    }

    @Test func everyResponseCarriesAnId() throws {
      let server = try HTTPTestServer { exchange in
        exchange.setHeader("X-Early", "1")
        standardHandler(exchange)
      }
      let client = try server.client()
      #expect(try client.get("/hello", headers: "X-Request-Id: mine-1\r\n").headers["x-request-id"] == "mine-1")
      for bad in ["has space", "é", String(repeating: "a", count: 129), ""] {
        let id = try #require(try client.get("/nope", headers: "X-Request-Id: \(bad)\r\n").headers["x-request-id"])
        #expect(id.hasPrefix("req_") && id.count == 28)
      }
      let first = try client.get("/hello")
      let second = try client.get("/hello")
      #expect(first.headers["x-request-id"] != second.headers["x-request-id"])
      #expect(first.headers["x-early"] == "1")
      try client.send("BROKEN\r\n\r\n")
      let refused = try client.receiveResponse()
      #expect(refused.status == 400)
      #expect(refused.headers["x-request-id"]?.hasPrefix("req_") == true)
      #expect(refused.headers["content-type"] == "application/json")
    }

    @Test func responseHeadersCannotBeSplit() throws {
      let server = try HTTPTestServer { exchange in
        exchange.respond(
          status: 200,
          headers: ["X-A": "a\r\nX-Evil: 1", "X-B\r\nX-Evil": "1", "Content-Length": "999", "Connection": "x"])
      }
      let response = try server.client().get("/")
      #expect(response.headers["x-a"] == "a  X-Evil: 1")
      #expect(response.headers["x-evil"] == nil)
      #expect(response.headers["content-length"] == "0")
      #expect(response.headers["connection"] == nil)
    }

    @Test func aSecondAnswerIsIgnored() throws {
      let server = try HTTPTestServer { exchange in
        exchange.respond(status: 200, body: Array("one".utf8))
        exchange.respond(status: 500, body: Array("two".utf8))
        exchange.startStreaming(status: 500)
        #expect(!exchange.write([1]))
        exchange.end()
        exchange.onClose { Issue.record("onClose after the response's end") }
      }
      let client = try server.client()
      #expect(try client.get("/").text == "one")
      #expect(try client.get("/").text == "one")
    }

    @Test func ipv6() throws {
      let seen = Box("")
      let server = try HTTPTestServer {
        $0.host = "::1"
      } handler: { exchange in
        seen.value = exchange.request.remoteAddress
        exchange.respond(status: 200)
      }
      let client = try HTTPTestClient(port: server.port, host: "::1")
      #expect(try client.get("/").status == 200)
      #expect(seen.value == "::1")
    }

    @Test func bindErrorsNameAddressAndPort() throws {
      let server = try HTTPTestServer(handler: standardHandler)
      let taken = server.port
      #expect(throws: HTTPServerError("127.0.0.1 port \(taken)", reason: String(cString: strerror(EADDRINUSE)))) {
        _ = try HTTPTestServer({ $0.port = taken }, handler: standardHandler)
      }
      #expect(throws: HTTPServerError("192.0.2.1 port 0", reason: String(cString: strerror(EADDRNOTAVAIL)))) {
        _ = try HTTPTestServer({ $0.host = "192.0.2.1" }, handler: standardHandler)
      }
      let error = #expect(throws: HTTPServerError.self) {
        _ = try HTTPTestServer({ $0.host = "no such host" }, handler: standardHandler)
      }
      #expect(error?.subject == "no such host port 0")
    }

    @Test func datesAreThoseOfTheStandard() {
      #expect(formatHTTPDate(784_111_777) == "Sun, 06 Nov 1994 08:49:37 GMT")
      #expect(formatHTTPDate(0) == "Thu, 01 Jan 1970 00:00:00 GMT")
      // Against the C library, over leap years and centuries.
      for seconds in stride(from: 0, to: 8_000_000_000, by: 7_654_321) {
        var (time, parts) = (seconds, tm())
        gmtime_r(&time, &parts)
        var buffer = [CChar](repeating: 0, count: 64)
        strftime(&buffer, buffer.count, "%a, %d %b %Y %H:%M:%S GMT", &parts)
        #expect(formatHTTPDate(seconds) == buffer.withUnsafeBufferPointer { String(cString: $0.baseAddress!) })
      }
    }
  }
}
