import CLibevent
import Foundation
import Glibc
import Serve
import Testing

extension HTTPTests {
  @Suite struct Servers {
    @Test func workFromManyThreadsRunsInOrderOnTheLoop() throws {
      let loop = try EventLoop()
      let seen = Box<[[Int]]>(Array(repeating: [], count: 8))
      let left = Box(8 * 5000)
      let isInLoop = Box(true)
      for thread in 0..<8 {
        Thread.detachNewThread {
          for index in 0..<5000 {
            loop.execute {
              seen.update { $0[thread].append(index) }
              if !loop.isInLoop { isInLoop.value = false }
              left.update { $0 -= 1 }
              if left.value == 0 { loop.stop() }
            }
          }
        }
      }
      let ended = Flag()
      Thread.detachNewThread {
        loop.run()
        ended.set()
      }
      #expect(ended.wait())
      #expect(seen.value.allSatisfy { $0 == Array(0..<5000) })
      #expect(isInLoop.value)
      #expect(!loop.isInLoop)
    }

    @Test func timersFireInOrderAndCanBeCancelled() throws {
      let loop = try EventLoop()
      let fired = Box<[Int]>([])
      loop.schedule(after: .milliseconds(60)) {
        fired.update { $0.append(3) }
        loop.stop()
      }
      loop.schedule(after: .milliseconds(10)) { fired.update { $0.append(1) } }
      let cancelled = loop.schedule(after: .milliseconds(15)) { fired.update { $0.append(9) } }
      let again = loop.schedule(after: .milliseconds(5)) { fired.update { $0.append(2) } }
      again.arm(after: .milliseconds(30))
      cancelled.cancel()
      loop.run()
      #expect(fired.value == [1, 2, 3])
    }

    @Test func signalsReachTheLoop() throws {
      let loop = try EventLoop()
      let seen = Box<[Int32]>([])
      loop.onSignals([SIGUSR1, SIGUSR2]) { number in
        seen.update { $0.append(number) }
        if seen.value.count == 2 { loop.stop() }
      }
      loop.schedule(after: .zero) { kill(getpid(), SIGUSR1) }
      loop.schedule(after: .milliseconds(20)) { kill(getpid(), SIGUSR2) }
      loop.run()
      #expect(seen.value == [SIGUSR1, SIGUSR2])
    }

    @Test func touchingAnExchangeOffItsLoopTraps() async {
      await #expect(processExitsWith: .failure) {
        let exchange = Box<HTTPExchange?>(nil)
        let begun = Flag()
        let server = try HTTPTestServer {
          exchange.value = $0
          begun.set()
        }
        let client = try server.client()
        try client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        // A failure to get this far must not look like the trap.
        guard begun.wait() else { exit(0) }
        exchange.value?.respond(status: 200)
        exit(0)
      }
    }

    @Test func aGracefulStopLetsExchangesEnd() throws {
      let running = Box<HTTPExchange?>(nil)
      let begun = Flag()
      let server = try HTTPTestServer { exchange in
        if exchange.request.path == ["now"] { return exchange.respond(status: 200) }
        running.value = exchange
        exchange.onClose { Issue.record("the exchange was cut off") }
        exchange.startStreaming(status: 200)
        begun.set()
      }
      let idle = try server.client()
      #expect(try idle.get("/now").status == 200)
      let busy = try server.client()
      try busy.send("GET /later HTTP/1.1\r\nHost: a\r\n\r\n")
      #expect(begun.wait())
      let stopped = Flag()
      server.server.stop(deadline: .seconds(60)) { stopped.set() }
      #expect(try idle.receive().isEmpty)
      #expect(throws: WireError.self) { _ = try server.client().get("/now") }
      #expect(stopped.timesSet == 0)
      server.loop.execute {
        running.value?.write(Array("end".utf8))
        running.value?.end()
      }
      #expect(try busy.receiveResponse().text == "end")
      #expect(try busy.receive().isEmpty)
      busy.close()
      #expect(stopped.wait())
      running.value = nil
    }

    @Test func aStopPastItsDeadlineCutsOff() throws {
      let begun = Flag()
      let closed = Flag()
      let server = try HTTPTestServer { exchange in
        exchange.onClose { closed.set() }
        begun.set()
      }
      let client = try server.client()
      try client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
      #expect(begun.wait())
      let stopped = Flag()
      server.server.stop(deadline: .milliseconds(50)) { stopped.set() }
      #expect(stopped.wait())
      #expect(closed.timesSet == 1)
      #expect(try client.receive().isEmpty)
    }

    @Test func connectionsOverTheLimitWait() throws {
      let server = try HTTPTestServer({ $0.maxConnections = 2 }, handler: standardHandler)
      let first = try server.client()
      let second = try server.client()
      #expect(try first.get("/hello").status == 200)
      #expect(try second.get("/hello").status == 200)
      let third = try server.client()
      try third.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
      usleep(100_000)
      #expect(server.connectionCount == 2)
      first.close()
      #expect(try third.receiveResponse().text == "hello")
    }

    @Test func connectionsAndExchangesAreFreed() throws {
      final class Token: Sendable {
        let alive: Box<Int>
        init(_ alive: Box<Int>) {
          self.alive = alive
          alive.update { $0 += 1 }
        }
        deinit { alive.update { $0 -= 1 } }
      }
      let alive = Box(0)
      do {
        let server = try HTTPTestServer { exchange in
          // A handler whose closures hold their exchange, as closures do.
          let token = Token(alive)
          exchange.onClose { _ = (token, exchange) }
          exchange.onDrain { _ = (token, exchange) }
          if exchange.request.path == ["wait"] { return }
          exchange.collectBody { _ in exchange.respond(status: token.alive.value > 0 ? 200 : 500) }
        }
        for target in ["/", "/wait", "/"] {
          let client = try server.client()
          try client.send("GET \(target) HTTP/1.1\r\nHost: a\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n123")
          if target == "/" { #expect(try client.receiveResponse().status == 200) }
          client.close()
        }
        #expect(server.drains())
      }
      #expect(alive.value == 0)
    }
  }

  @Suite struct TLS {
    /// A self-signed certificate and its key in a folder of their own.
    final class Certificate {
      let folder = FileManager.default.temporaryDirectory.appendingPathComponent("graft-tls-\(UUID().uuidString)")
      var certificate: String { folder.appendingPathComponent("cert.pem").path }
      var key: String { folder.appendingPathComponent("key.pem").path }

      init() throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = [
          "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", key,
          "-out", certificate,
        ]
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0, "openssl made no certificate")
      }

      deinit { try? FileManager.default.removeItem(at: folder) }
    }

    /// Blocking TLS over a test client's socket.
    final class Session {
      let client: HTTPTestClient
      private let context: OpaquePointer
      private let ssl: OpaquePointer

      init(_ server: HTTPTestServer) throws {
        client = try server.client()
        context = try #require(SSL_CTX_new(TLS_client_method()))
        ssl = try #require(SSL_new(context))
        SSL_set_fd(ssl, client.descriptor)
        try #require(SSL_connect(ssl) == 1)
      }

      deinit {
        SSL_free(ssl)
        SSL_CTX_free(context)
      }

      func send(_ bytes: [UInt8]) throws {
        if !bytes.isEmpty { try #require(SSL_write(ssl, bytes, Int32(bytes.count)) == Int32(bytes.count)) }
      }

      func receive() -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 65536)
        let count = SSL_read(ssl, &bytes, Int32(bytes.count))
        return Array(bytes.prefix(max(0, Int(count))))
      }

      func receiveAll() -> [UInt8] {
        var all: [UInt8] = []
        while case let bytes = receive(), !bytes.isEmpty { all += bytes }
        return all
      }
    }

    @Test func requestsStreamsAndPartingsWorkOverTLS() throws {
      let certificate = try Certificate()
      let closed = Flag()
      let begun = Flag()
      let server = try HTTPTestServer {
        $0.tls = .init(certificatePath: certificate.certificate, keyPath: certificate.key)
      } handler: { exchange in
        switch exchange.request.path.first {
        case "wait":
          exchange.onClose { closed.set() }
          begun.set()
        case "upload":
          final class State { var (count, sincePause) = (0, 0) }
          let state = State()
          exchange.streamBody(limit: 1 << 30) { bytes in
            state.count += bytes.count
            state.sincePause += bytes.count
            guard state.sincePause > 1 << 20 else { return }
            state.sincePause = 0
            exchange.pauseBody()
            exchange.loop.schedule(after: .milliseconds(1)) { exchange.resumeBody() }
          } onEnd: { _ in
            exchange.respond(status: 200, body: Array("got \(state.count)".utf8))
          }
        default: standardHandler(exchange)
        }
      }
      let upload = try Session(server)
      let total = 16 << 20
      try upload.send(Array("POST /upload HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: \(total)\r\n\r\n".utf8))
      // Pieces that fill no record evenly.
      var left = total
      while left > 0 {
        let count = min(left, 40_961)
        try upload.send([UInt8](repeating: 1, count: count))
        left -= count
      }
      #expect(String(decoding: upload.receiveAll(), as: UTF8.self).hasSuffix("\r\n\r\ngot \(total)"))

      let download = try Session(server)
      try download.send(Array("GET /big?n=5000000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".utf8))
      let all = download.receiveAll()
      #expect(all.suffix(5_000_000).allSatisfy { $0 == 0x61 })
      #expect(all.count > 5_000_000)

      for parting in [HTTPTestClient.close, HTTPTestClient.reset] {
        let waiting = try Session(server)
        try waiting.send(Array("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n".utf8))
        #expect(begun.wait())
        parting(waiting.client)()
        #expect(closed.wait())
      }
      // Plain text to a TLS port ends in a closed connection.
      let plain = try server.client()
      try plain.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
      #expect(!String(decoding: try plain.receiveAll(), as: UTF8.self).contains("HTTP/1.1 200"))
      upload.client.close()
      download.client.close()
      plain.close()
      #expect(server.drains())
    }

    @Test func badCertificatesAreNamed() throws {
      let certificate = try Certificate()
      for (cert, key, subject) in [
        ("/no/such.pem", certificate.key, "certificate /no/such.pem"),
        (certificate.certificate, "/no/such.pem", "private key /no/such.pem"),
        (certificate.certificate, try Certificate().key, nil),
      ] as [(String, String, String?)] {
        let error = #expect(throws: HTTPServerError.self) {
          _ = try HTTPTestServer({ $0.tls = .init(certificatePath: cert, keyPath: key) }, handler: standardHandler)
        }
        if let subject { #expect(error?.subject == subject) }
      }
    }
  }
}
