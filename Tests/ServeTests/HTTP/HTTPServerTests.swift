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
          try client.send(
            "GET \(target) HTTP/1.1\r\nHost: a\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n123")
          if target == "/" { #expect(try client.receiveResponse().status == 200) }
          client.close()
        }
        #expect(server.drains())
      }
      #expect(alive.value == 0)
    }
  }
}
