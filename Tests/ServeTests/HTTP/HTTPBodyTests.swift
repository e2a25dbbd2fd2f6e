import Foundation
import Serve
import Testing

extension HTTPTests {
  @Suite struct Bodies {
    @Test func pipelinedRequestsAreAnsweredInOrder() throws {
      // The first answer comes last from the handler's point of view; order must hold all the same.
      let server = try HTTPTestServer { exchange in
        let delay = exchange.request.path == ["0"] ? 50 : 0
        exchange.loop.schedule(after: .milliseconds(delay)) {
          exchange.collectBody { result in
            let body = (try? result.get().bytes) ?? []
            exchange.respond(status: 200, body: Array(exchange.request.target.utf8) + body)
          }
        }
      }
      let client = try server.client()
      var requests = ""
      for index in 0..<40 {
        requests +=
          index % 2 == 0
          ? "POST /\(index) HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
          : "POST /\(index) HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n\r\n"
      }
      try client.send(requests)
      for index in 0..<40 { #expect(try client.receiveResponse().text == "/\(index)abc") }
    }

    @Test func pipelinedRequestsWaitForASlowReader() throws {
      let begun = Box(0)
      let server = try HTTPTestServer { exchange in
        begun.update { $0 += 1 }
        exchange.respond(status: 200, body: [UInt8](repeating: 7, count: 1 << 20))
      }
      let client = try server.client(receiveBuffer: 65536)
      let total = 64
      try client.send(String(repeating: "GET / HTTP/1.1\r\nHost: a\r\n\r\n", count: total))
      _ = try client.receive(1)
      usleep(300_000)
      // What the kernel's buffers and one response over the watermark hold, not all 64 MB.
      #expect(begun.value < total / 2)
      let rest = try client.receiveExactly((1 << 20) * total)
      #expect(rest.count == (1 << 20) * total)
      #expect(server.onLoop { begun.value } == total)
    }

    @Test(arguments: [1, 2, 3, 7, 64]) func chunkedBodiesCutAnywhere(size: Int) throws {
      let server = try HTTPTestServer(handler: standardHandler)
      let client = try server.client()
      let request =
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"
        + "5;ext=\"a b\"\r\nhello\r\n00A\r\n, world 12\r\n0\r\nX-Trailer: v\r\nY: w\r\n\r\n"
      let bytes = Array((request + request).utf8)
      for start in stride(from: 0, to: bytes.count, by: size) {
        try client.send(Array(bytes[start..<min(start + size, bytes.count)]))
        usleep(200)
      }
      for _ in 0..<2 { #expect(try client.receiveResponse().text == "hello, world 12") }
    }

    @Test func expectContinueIsSentWhenTheBodyIsWanted() throws {
      let server = try HTTPTestServer { exchange in
        if exchange.request.path == ["refuse"] { return exchange.fail(status: 401, message: "no") }
        standardHandler(exchange)
      }
      let head = "HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n"
      let client = try server.client()
      try client.send("POST /echo \(head)")
      #expect(try client.receiveHead().status == 100)
      try client.send("12345")
      #expect(try client.receiveResponse().text == "12345")

      // Refused before the body: no 100, and the connection ends, since the body may or may not follow.
      try client.send("POST /refuse \(head)")
      let refused = try client.receiveResponse()
      #expect(refused.status == 401)
      #expect(refused.headers["connection"] == "close")
      #expect(try client.receive().isEmpty)

      let odd = try server.client()
      try odd.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: tea\r\n\r\n")
      #expect(try odd.receiveResponse().status == 417)
    }

    @Test func bodiesOverTheLimitAre413() throws {
      let server = try HTTPTestServer({ $0.maxBodyBytes = 1000 }, handler: standardHandler)
      let exact = try server.client()
      try exact.send(
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n" + String(repeating: "a", count: 1000))
      #expect(try exact.receiveResponse().body.count == 1000)

      // The client is still sending when it is refused, and must be able to read why.
      let declared = try server.client()
      try declared.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n")
      try declared.send([UInt8](repeating: 0x61, count: 3_000_000))
      let refused = try declared.receiveResponse()
      #expect(refused.status == 413)
      #expect(refused.text == #"{"error":{"message":"body over 1000 bytes","code":413}}"#)
      #expect(refused.headers["connection"] == "close")

      let chunked = try server.client()
      try chunked.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
      for _ in 0..<11 { try chunked.send("64\r\n" + String(repeating: "a", count: 100) + "\r\n") }
      #expect(try chunked.receiveResponse().status == 413)
      #expect(try chunked.receive().isEmpty)
    }

    @Test func unreadBodiesAreSkippedOrEndTheConnection() throws {
      let server = try HTTPTestServer { exchange in exchange.respond(status: 404) }
      let client = try server.client()
      for _ in 0..<3 {
        try client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n")
        #expect(try client.receiveResponse().status == 404)
        try client.send([UInt8](repeating: 0x47, count: 2000))
      }
      try client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n")
      #expect(try client.receiveResponse().headers["connection"] == "close")
      #expect(try client.receive().isEmpty)
    }

    @Test func largeBodiesStreamWithPauses() throws {
      let total = 64 << 20
      let peak = Box(0)
      let pauses = Box(0)
      let server = try HTTPTestServer { exchange in
        final class State { var (count, sum, sincePause, isPaused) = (0, UInt64(0), 0, false) }
        let state = State()
        exchange.streamBody(limit: total) { bytes in
          #expect(!state.isPaused, "a chunk came while the body was paused")
          peak.update { $0 = max($0, bytes.count) }
          state.count += bytes.count
          for word in bytes.bindMemory(to: UInt8.self) { state.sum = state.sum &* 31 &+ UInt64(word) }
          state.sincePause += bytes.count
          guard state.sincePause > 4 << 20 else { return }
          (state.sincePause, state.isPaused) = (0, true)
          pauses.update { $0 += 1 }
          exchange.pauseBody()
          exchange.loop.schedule(after: .milliseconds(5)) {
            state.isPaused = false
            exchange.resumeBody()
          }
        } onEnd: { result in
          #expect(throws: Never.self) { try result.get() }
          exchange.respond(status: 200, body: Array("\(state.count) \(state.sum)".utf8))
        }
      }
      let client = try server.client()
      try client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \(total)\r\n\r\n")
      var (sum, byte) = (UInt64(0), UInt8(0))
      for _ in 0..<(total >> 16) {
        let piece = (0..<65536).map { _ -> UInt8 in
          byte = byte &* 5 &+ 17
          sum = sum &* 31 &+ UInt64(byte)
          return byte
        }
        try client.send(piece)
      }
      #expect(try client.receiveResponse().text == "\(total) \(sum)")
      #expect(pauses.value >= 8)
      // Chunks are slices of the bounded input buffer.
      #expect(peak.value <= 512 << 10)
      #expect(try client.get("/").status == 200)
    }

    @Test func aPausedBodyIsNotReadFromTheSocket() throws {
      let paused = Flag()
      let kept = Box<HTTPExchange?>(nil)
      let server = try HTTPTestServer { exchange in
        exchange.streamBody(limit: 1 << 30) { _ in
          if kept.value == nil {
            kept.value = exchange
            exchange.pauseBody()
            paused.set()
          }
        } onEnd: { _ in
          exchange.respond(status: 200)
        }
      }
      let client = try server.client()
      let total = 64 << 20
      try client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \(total)\r\n\r\n")
      let sent = Box(0)
      let allSent = Flag()
      nonisolated(unsafe) let sender = client
      Thread.detachNewThread {
        let piece = [UInt8](repeating: 1, count: 1 << 20)
        for _ in 0..<64 {
          guard (try? sender.send(piece)) != nil else { break }
          sent.update { $0 += 1 }
        }
        allSent.set()
      }
      #expect(paused.wait())
      usleep(300_000)
      // The kernel's buffers take a few MB, the server nothing more.
      #expect(sent.value < 48)
      server.loop.execute { kept.value?.resumeBody() }
      #expect(allSent.wait())
      #expect(try client.receiveResponse().status == 200)
      kept.value = nil
    }

    @Test func aBodyThatNeverComesTimesOut() throws {
      let outcome = Box<HTTPBodyError?>(nil)
      let server = try HTTPTestServer {
        $0.stallTimeout = .milliseconds(100)
        $0.headerTimeout = .milliseconds(100)
        $0.idleTimeout = .milliseconds(100)
      } handler: { exchange in
        exchange.onClose { Issue.record("an exchange that the layer answered is not closed") }
        exchange.collectBody { result in
          if case .failure(let error) = result { outcome.value = error }
          exchange.respond(status: 200)
        }
      }
      let body = try server.client()
      try body.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12")
      #expect(try body.receiveResponse().status == 408)
      #expect(outcome.value == .timedOut)
      let header = try server.client()
      try header.send("GET / HTTP/1.1\r\nHo")
      #expect(try header.receiveResponse().status == 408)
      let idle = try server.client()
      #expect(try idle.get("/").status == 200)
      #expect(try idle.receive().isEmpty)
      #expect(try server.client().receive().isEmpty)
    }
  }
}
