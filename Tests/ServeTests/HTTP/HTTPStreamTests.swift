import Foundation
import Glibc
import Testing

@testable import Serve

extension HTTPTests {
  @Suite struct Streams {
    @Test func streamsAreChunkedAndArriveAsWritten() throws {
      let exchanges = Box<HTTPExchange?>(nil)
      let begun = Flag()
      let server = try HTTPTestServer { exchange in
        exchange.startStreaming(status: 200, headers: ["Content-Type": "text/event-stream"])
        exchanges.value = exchange
        begun.set()
      }
      let client = try server.client()
      try client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
      #expect(begun.wait())
      let head = try client.receiveHead()
      #expect(head.headers["transfer-encoding"] == "chunked")
      for text in ["data: a\n\n", "data: b\n\n"] {
        server.loop.execute { exchanges.value?.write(Array(text.utf8)) }
        // Each piece is there before the next is written.
        #expect(try client.receiveChunk() == Array(text.utf8))
      }
      server.loop.execute {
        exchanges.value?.write([])
        exchanges.value?.end()
      }
      #expect(try client.receiveChunk().isEmpty)
      exchanges.value = nil
    }

    /// A stream of events without events for long has comments, which are between the events.
    @Test func silentEventStreamsHaveComments() throws {
      let exchanges = Box<HTTPExchange?>(nil)
      let server = try HTTPTestServer({ $0.maxSilence = .milliseconds(30) }) { exchange in
        exchange.startEventStream()
        exchanges.value = exchange
      }
      let client = try server.client()
      try client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
      _ = try client.receiveHead()
      let comment = Array(": keep-alive\n\n".utf8)
      for _ in 0..<3 { #expect(try client.receiveChunk() == comment) }
      let event = Array("data: a\n\n".utf8)
      server.loop.execute { exchanges.value?.write(event) }
      var next = try client.receiveChunk()
      while next == comment { next = try client.receiveChunk() }
      #expect(next == event)
      #expect(try client.receiveChunk() == comment)
      server.loop.execute {
        exchanges.value?.end()
        exchanges.value = nil
      }
      while case let chunk = try client.receiveChunk(), !chunk.isEmpty { #expect(chunk == comment) }
    }

    /// A stream of events that does not begin for long begins with comments. Its writer may begin it again, and what fails
    /// then is an event.
    @Test func eventStreamsThatDoNotBeginHaveComments() throws {
      let exchanges = Box<HTTPExchange?>(nil)
      let server = try HTTPTestServer({ $0.maxSilence = .milliseconds(30) }) { exchange in
        exchange.startEventStreamIfSilent()
        exchanges.value = exchange
      }
      let client = try server.client()
      try client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
      let head = try client.receiveHead()
      #expect(head.status == 200 && head.headers["content-type"]?.hasPrefix("text/event-stream") == true)
      for _ in 0..<2 { #expect(try client.receiveChunk() == SSEWriter.comment) }
      let error = APIError.plain(status: 429, message: "too many")
      server.loop.execute {
        exchanges.value?.startEventStream()
        exchanges.value?.respond(error)
        exchanges.value = nil
      }
      var chunks: [[UInt8]] = []
      while case let chunk = try client.receiveChunk(), !chunk.isEmpty { chunks.append(chunk) }
      #expect(chunks.filter { $0 != SSEWriter.comment } == [SSEWriter.event(error.json)])
      #expect(chunks.last == SSEWriter.event(error.json))
    }

    /// An answer that comes in time is what it would be without the wait, and nothing follows it.
    @Test func answersInTimeKeepTheirStatus() throws {
      let server = try HTTPTestServer({ $0.maxSilence = .milliseconds(30) }) { exchange in
        exchange.startEventStreamIfSilent()
        exchange.respond(APIError.plain(status: 429, message: "too many"))
      }
      let client = try server.client()
      for _ in 0..<2 {
        try client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(try client.receiveResponse().status == 429)
        usleep(100_000)
        #expect(!client.hasInput)
      }
    }

    @Test func aClientMayLeaveBeforeItsStreamBegins() throws {
      let server = try HTTPTestServer({ $0.maxSilence = .milliseconds(30) }) { $0.startEventStreamIfSilent() }
      for _ in 0..<8 {
        let client = try server.client()
        try client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        usleep(10_000)
        client.reset()
      }
      #expect(server.drains())
    }

    @Test func aSlowReaderHoldsTheWriterBack() throws {
      let total = 48 << 20
      let peak = Box(0)
      let drains = Box(0)
      let server = try HTTPTestServer { exchange in
        final class Writer { var written = 0 }
        let writer = Writer()
        let piece = [UInt8](repeating: 0x2A, count: 32768)
        @Sendable func pump(_ exchange: HTTPExchange, _ writer: Writer) {
          while writer.written < total {
            writer.written += piece.count
            let mayGoOn = exchange.write(piece)
            let buffered = exchange.bufferedBytes
            peak.update { $0 = max($0, buffered) }
            if !mayGoOn { return }
          }
          exchange.end()
        }
        exchange.startStreaming(status: 200)
        exchange.onDrain {
          drains.update { $0 += 1 }
          pump(exchange, writer)
        }
        pump(exchange, writer)
      }
      let client = try server.client(receiveBuffer: 65536)
      try client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
      _ = try client.receiveHead()
      usleep(300_000)
      // A stalled reader: the writer has stopped far from its end.
      #expect(drains.value < 400)
      var received = 0
      while case let chunk = try client.receiveChunk(), !chunk.isEmpty { received += chunk.count }
      #expect(received == total)
      #expect(drains.value > 10)
      #expect(peak.value <= (256 << 10) + 32768 + 16)
    }

    @Test func aWriterThatIgnoresBackPressureIsCutOff() throws {
      let closed = Flag()
      let peak = Box(0)
      let server = try HTTPTestServer({ $0.maxBufferedBytes = 1 << 20 }) { exchange in
        exchange.startStreaming(status: 200)
        exchange.onClose { closed.set() }
        @Sendable func writeOn() {
          for _ in 0..<16 { exchange.write([UInt8](repeating: 1, count: 65536)) }
          let buffered = exchange.bufferedBytes
          peak.update { $0 = max($0, buffered) }
          if !exchange.isClosed { exchange.loop.execute { writeOn() } }
        }
        exchange.loop.execute { writeOn() }
      }
      let client = try server.client(receiveBuffer: 65536)
      try client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
      #expect(closed.wait())
      #expect(peak.value <= (1 << 20) + 65536 + 16)
      #expect(server.drains())
    }

    @Test func aReaderThatNeverReadsIsDropped() throws {
      let closed = Flag()
      let server = try HTTPTestServer({ $0.stallTimeout = .milliseconds(200) }) { exchange in
        exchange.onClose { closed.set() }
        exchange.startStreaming(status: 200)
        exchange.onDrain { while exchange.write([UInt8](repeating: 1, count: 65536)) {} }
        while exchange.write([UInt8](repeating: 1, count: 65536)) {}
      }
      let client = try server.client(receiveBuffer: 65536)
      try client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
      #expect(closed.wait())
      #expect(server.drains())
    }

    enum Parting: CaseIterable { case fin, reset, halfClose }

    /// What the exchange is doing when its client leaves.
    enum Activity: String, CaseIterable {
      case waiting, streaming, pipelined, bodyPaused, bodyUndecided, bodyHalfSent, backPressed
    }

    /// No byte is written or read meanwhile, so only the watch can tell.
    @Test(arguments: Parting.allCases, Activity.allCases)
    func aVanishedClientIsNoticed(parting: Parting, activity: Activity) throws {
      let closed = Flag()
      let begun = Flag()
      let bodyEnds = Box<[HTTPBodyError]>([])
      let server = try HTTPTestServer { exchange in
        exchange.onClose {
          #expect(exchange.isClosed)
          #expect(!exchange.write([1]))
          exchange.respond(status: 200)
          exchange.end()
          closed.set()
        }
        switch activity {
        case .waiting, .pipelined, .bodyUndecided: begun.set()
        case .streaming:
          exchange.startStreaming(status: 200)
          exchange.write([1])
          begun.set()
        case .backPressed:
          exchange.startStreaming(status: 200)
          while exchange.write([UInt8](repeating: 1, count: 65536)) {}
          exchange.onDrain { while exchange.write([UInt8](repeating: 1, count: 65536)) {} }
          exchange.loop.schedule(after: .milliseconds(100)) { begun.set() }
        case .bodyPaused, .bodyHalfSent:
          let isFirst = Box(true)
          exchange.streamBody(limit: 1 << 30) { _ in
            if isFirst.value {
              isFirst.value = false
              if activity == .bodyPaused { exchange.pauseBody() }
              begun.set()
            }
          } onEnd: { result in
            if case .failure(let error) = result { bodyEnds.update { $0.append(error) } }
          }
        }
      }
      let client = try server.client(receiveBuffer: activity == .backPressed ? 65536 : nil)
      switch activity {
      case .waiting, .streaming, .backPressed: try client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
      case .pipelined: try client.send(String(repeating: "GET / HTTP/1.1\r\nHost: a\r\n\r\n", count: 1000))
      case .bodyPaused, .bodyUndecided, .bodyHalfSent:
        try client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90000000\r\n\r\n")
        try client.send([UInt8](repeating: 1, count: 100_000))
      }
      #expect(begun.wait())
      switch parting {
      case .fin: client.close()
      case .reset: client.reset()
      case .halfClose: client.shutdownSending()
      }
      // A slow reader that shuts its sending half is told from one that is gone by nothing but its kernel.
      #expect(closed.wait())
      #expect(server.drains())
      #expect(closed.timesSet == 1)
      let expectsBodyEnd = activity == .bodyPaused || activity == .bodyHalfSent
      #expect(bodyEnds.value == (expectsBodyEnd ? [.disconnected] : []))
    }

    @Test func aHalfClosedClientGetsWhatIsAnsweredAtOnce() throws {
      let server = try HTTPTestServer(handler: standardHandler)
      let client = try server.client()
      try client.send(
        "GET /hello HTTP/1.1\r\nHost: a\r\n\r\nPOST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
      client.shutdownSending()
      #expect(try client.receiveResponse().text == "hello")
      #expect(try client.receiveResponse().text == "abc")
      #expect(try client.receive().isEmpty)
      #expect(server.drains())
    }

    @Test func twoThousandStreamsAtOnce() throws {
      var limit = rlimit()
      getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
      limit.rlim_cur = min(limit.rlim_max, 8192)
      setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
      // Both ends of each stream live in this process.
      let count = min(2000, (Int(limit.rlim_cur) - 200) / 2)
      try #require(count >= 500, "RLIMIT_NOFILE is too low for this test")

      let exchanges = Box<[HTTPExchange]>([])
      let closed = Box(0)
      let allBegun = Flag()
      let allClosed = Flag()
      let server = try HTTPTestServer { exchange in
        exchange.startStreaming(status: 200)
        exchange.write(Array("first".utf8))
        exchange.onClose {
          closed.update { $0 += 1 }
          if closed.value == count / 2 { allClosed.set() }
        }
        exchanges.update { $0.append(exchange) }
        if exchanges.value.count == count { allBegun.set() }
      }
      var clients: [HTTPTestClient] = []
      for _ in 0..<count {
        let client = try server.client()
        try client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        clients.append(client)
      }
      #expect(allBegun.wait())
      #expect(server.connectionCount == count)
      server.loop.execute { for exchange in exchanges.value { exchange.write(Array("second".utf8)) } }
      for client in clients {
        _ = try client.receiveHead()
        #expect(try client.receiveChunk() == Array("first".utf8))
        #expect(try client.receiveChunk() == Array("second".utf8))
      }
      for client in clients.prefix(count / 2) { client.close() }
      #expect(allClosed.wait())
      server.loop.execute { for exchange in exchanges.value { exchange.end() } }
      for client in clients.dropFirst(count / 2) {
        #expect(try client.receiveChunk().isEmpty)
        client.close()
      }
      #expect(server.drains())
      exchanges.value = []
    }
  }
}
