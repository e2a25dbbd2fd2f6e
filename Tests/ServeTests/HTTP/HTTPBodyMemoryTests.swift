import Foundation
import Serve
import Testing

extension HTTPTests {
  /// Many unfinished bodies, and ones that come too slowly.
  @Suite struct BodyMemoryTests {
    @Test func allBodiesTogetherAreBounded() throws {
      let server = try HTTPTestServer({ $0.maxBodyMemory = 2 << 20 }, handler: standardHandler)
      let head = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 300001\r\n\r\n"
      var held: [HTTPTestClient] = []
      for _ in 0..<3 {
        let client = try server.client()
        try client.send(head + String(repeating: "x", count: 300_000))
        held.append(client)
      }
      // They are read at once, and then wait for their last byte.
      usleep(300_000)
      let extra = try server.client()
      try extra.send(head + String(repeating: "x", count: 300_000))
      let refused = try extra.receiveResponse()
      #expect(refused.status == 503 && refused.headers["retry-after"] == "1")
      // Small ones still fit, and what ends or goes away makes room.
      extra.close()
      let small = try server.client()
      try small.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
      #expect(try small.receiveResponse().text == "hi")
      try held[0].send("y")
      #expect(try held[0].receiveResponse().status == 200)
      held[1].close()
      let deadline = ContinuousClock.now + .seconds(30)
      var status = 503
      while status != 200, ContinuousClock.now < deadline {
        let again = try server.client()
        try again.send(head + String(repeating: "x", count: 300_001))
        status = try again.receiveResponse().status
      }
      #expect(status == 200)
    }

    @Test func aBodyThatTricklesIsRefused() throws {
      let server = try HTTPTestServer(
        {
          $0.bodyGracePeriod = .milliseconds(200)
          $0.minBodyRate = 1 << 20
        }, handler: standardHandler)
      let client = try server.client()
      try client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
      var sent = 0
      // A byte every few milliseconds is progress, so only the rate tells.
      while sent < 10_000, (try? client.send("x")) != nil, !client.hasInput {
        sent += 1
        usleep(2000)
      }
      #expect(sent < 10_000)
      #expect(try client.receiveResponse().status == 408)
    }

    /// The time in which the server itself does not read counts for nobody.
    @Test func aBodyThatTheServerHoldsUpIsNotSlow() throws {
      let server = try HTTPTestServer {
        $0.bodyGracePeriod = .milliseconds(100)
        $0.minBodyRate = 1 << 20
      } handler: { exchange in
        let count = Box(0)
        exchange.streamBody { bytes in
          count.update { $0 += bytes.count }
          exchange.pauseBody()
          exchange.loop.schedule(after: .milliseconds(100)) { exchange.resumeBody() }
        } onEnd: { _ in
          exchange.respond(status: 200, body: Array("\(count.value)".utf8))
        }
      }
      let client = try server.client()
      try client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 400000\r\n\r\n" + String(repeating: "x", count: 400_000))
      #expect(try client.receiveResponse().text == "400000")
    }
  }
}
