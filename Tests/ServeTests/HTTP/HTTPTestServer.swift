import Foundation
import Serve
import Synchronization
import Testing

/// All tests of the HTTP layer, one after the other: some need many descriptors and both cores.
@Suite(.serialized) enum HTTPTests {}

/// Set once from one thread, awaited by another.
final class Flag: Sendable {
  // Long enough for a loaded machine; only a failing test ever waits so long.
  static let patience = DispatchTimeInterval.seconds(30)

  private let semaphore = DispatchSemaphore(value: 0)
  private let count = Mutex(0)

  func set() {
    count.withLock { $0 += 1 }
    semaphore.signal()
  }

  /// Whether `set` was called (once more) before patience ran out.
  func wait() -> Bool { semaphore.wait(timeout: .now() + Self.patience) == .success }

  var timesSet: Int { count.withLock { $0 } }
}

/// A value shared between a loop's thread and a test's.
final class Box<Value: Sendable>: Sendable {
  private let mutex: Mutex<Value>

  init(_ value: Value) { mutex = Mutex(value) }

  var value: Value {
    get { mutex.withLock { $0 } }
    set { mutex.withLock { $0 = newValue } }
  }

  func update(_ change: (inout sending Value) -> Void) { mutex.withLock { change(&$0) } }
}

/// A server on a loop thread of its own.
final class HTTPTestServer {
  let loop: EventLoop
  let server: HTTPServer
  private let ended = Flag()

  var port: UInt16 { server.port }

  init(_ change: (inout HTTPConfiguration) -> Void = { _ in }, handler: @escaping HTTPServer.Handler) throws {
    var configuration = HTTPConfiguration()
    configuration.port = 0
    configuration.errorBody = { status, message in
      ("application/json", Array(#"{"error":{"message":"\#(message)","code":\#(status)}}"#.utf8))
    }
    change(&configuration)
    let loop = try EventLoop()
    self.loop = loop
    server = try HTTPServer(loop: loop, configuration: configuration, handler: handler)
    let ended = ended
    Thread.detachNewThread {
      loop.run()
      ended.set()
    }
  }

  deinit {
    let loop = loop
    server.stop(deadline: .zero) { loop.stop() }
    _ = ended.wait()
  }

  func client(receiveBuffer: Int32? = nil) throws -> HTTPTestClient {
    try HTTPTestClient(port: port, receiveBuffer: receiveBuffer)
  }

  /// Runs on the loop, and waits for it.
  func onLoop<Value: Sendable>(_ work: @Sendable @escaping () -> Value) -> Value? {
    let result = Box<Value?>(nil)
    let done = Flag()
    loop.execute {
      result.value = work()
      done.set()
    }
    return done.wait() ? result.value : nil
  }

  var connectionCount: Int { onLoop { [server] in server.connectionCount } ?? -1 }

  /// Whether all connections go away.
  func drains() -> Bool {
    let deadline = ContinuousClock.now + .seconds(30)
    while ContinuousClock.now < deadline {
      if connectionCount == 0 { return true }
      usleep(5000)
    }
    return false
  }
}

/// Answers that most tests can do with: `/hello`, `/echo` (the body back), `/big?n=bytes`, `/stream?n=chunks`,
/// `/method`.
@Sendable func standardHandler(_ exchange: HTTPExchange) {
  let count = exchange.request.queryItems.first { $0.name == "n" }.flatMap { Int($0.value) } ?? 0
  switch exchange.request.path.first {
  case "hello": exchange.respond(status: 200, headers: ["Content-Type": "text/plain"], body: Array("hello".utf8))
  case "echo":
    exchange.collectBody { result in
      switch result {
      case .success(let body): exchange.respond(status: 200, body: body.bytes)
      case .failure(.tooLarge(let limit)): exchange.fail(status: 413, message: "body over \(limit) bytes")
      case .failure: break
      }
    }
  case "big": exchange.respond(status: 200, body: [UInt8](repeating: 0x61, count: count))
  case "stream":
    exchange.startStreaming(status: 200, headers: ["Content-Type": "text/plain"])
    for index in 0..<count { exchange.write(Array("\(index),".utf8)) }
    exchange.end()
  default: exchange.fail(status: 404, message: "no such path")
  }
}
