import Formats
import Foundation
import Testing

@testable import graft

/// What a service manager is told, through sockets that are made up here.
@Suite struct ServiceTests {
  /// A datagram socket with an address, as systemd has one.
  private final class Listener {
    let descriptor: Int32
    let name: String

    /// - Parameter name: a path, or "@" and a name
    init(_ name: String) throws {
      self.name = name
      descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
      var address = sockaddr_un()
      address.sun_family = sa_family_t(AF_UNIX)
      withUnsafeMutableBytes(of: &address.sun_path) {
        $0.copyBytes(from: name.utf8)
        if name.hasPrefix("@") { $0[0] = 0 }
      }
      let length = socklen_t(2 + name.utf8.count)
      let bound = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, length) }
      }
      try #require(bound == 0, "\(String(cString: strerror(errno)))")
    }

    deinit {
      close(descriptor)
      if name.hasPrefix("/") { unlink(name) }
    }

    /// The datagram that has come; `nil` if none has.
    func next() -> String? {
      var bytes = [UInt8](repeating: 0, count: 1000)
      let count = recv(descriptor, &bytes, bytes.count, Int32(MSG_DONTWAIT))
      return count < 0 ? nil : String(decoding: bytes.prefix(count), as: UTF8.self)
    }
  }

  @Test(arguments: ["/tmp/graft-\(getpid()).notify", "@graft/\(getpid())"])
  func aManagerGetsEveryMessage(name: String) throws {
    let listener = try Listener(name)
    let manager = try #require(ServiceManager(environment: ["NOTIFY_SOCKET": name]))
    try manager.tell([.status("loading a\nmodel")])
    try manager.tell([.ready, .status("serving")])
    try manager.tell([.alive])
    try manager.tell([.stopping])
    #expect(listener.next() == "STATUS=loading a model")
    #expect(listener.next() == "READY=1\nSTATUS=serving")
    #expect(listener.next() == "WATCHDOG=1")
    #expect(listener.next() == "STOPPING=1")
    #expect(listener.next() == nil)
  }

  @Test func noManager() {
    #expect(ServiceManager(environment: [:]) == nil)
    #expect(ServiceManager(environment: ["NOTIFY_SOCKET": ""]) == nil)
  }

  @Test(arguments: [
    "relative", "vsock:2:1", "/tmp/graft-missing-\(getpid())", "@" + String(repeating: "x", count: 108),
  ])
  func aSocketThatDoesNotWorkIsNamed(name: String) throws {
    let manager = try #require(ServiceManager(environment: ["NOTIFY_SOCKET": name]))
    let error = #expect(throws: ModelError.self) { try manager.tell([.ready]) }
    #expect("\(try #require(error))".contains("NOTIFY_SOCKET: \(name)"))
  }

  @Test func aManagerThatDoesNotReadHoldsNothingUp() throws {
    let name = "@graft-full/\(getpid())"
    let listener = try Listener(name)
    let manager = try #require(ServiceManager(environment: ["NOTIFY_SOCKET": name]))
    var isFull = false
    for _ in 0..<10_000 where !isFull {
      do { try manager.tell([.alive]) } catch { isFull = true }
    }
    #expect(isFull && listener.next() == "WATCHDOG=1")
  }

  @Test func signsOfLifeAreForTheProcessThatIsNamed() {
    func time(_ variables: [String: String]) -> Duration? {
      ServiceManager(environment: variables.merging(["NOTIFY_SOCKET": "/x"]) { $1 }, process: 7)?.watchdogTime
    }
    #expect(time(["WATCHDOG_USEC": "3000000"]) == .seconds(3))
    #expect(time(["WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"]) == .seconds(3))
    for variables in [
      [:], ["WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"], ["WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "me"],
      ["WATCHDOG_USEC": "0"], ["WATCHDOG_USEC": "-5"], ["WATCHDOG_USEC": "often"],
    ] { #expect(time(variables) == nil, "\(variables)") }
  }
}
