import Formats
import Foundation

/// The service manager that started the process and wants to know how it is, such as systemd for a unit with Type=notify.
///
/// Messages are lines of NAME=value in a datagram to the socket that NOTIFY_SOCKET names, as sd_notify(3) describes.
struct ServiceManager: Sendable {
  /// What the process tells.
  enum Message: Equatable {
    /// The model is loaded and requests are answered.
    case ready
    /// The process is ending.
    case stopping
    /// The process works. If the manager gets none of these for the time that it set, it ends the process.
    case alive
    /// What the process does, for people.
    case status(String)

    var line: String {
      switch self {
      case .ready: "READY=1"
      case .stopping: "STOPPING=1"
      case .alive: "WATCHDOG=1"
      case .status(let text): "STATUS=" + text.replacing("\n", with: " ")
      }
    }
  }

  /// A path; or a name of Linux's abstract namespace, with "@" in the place of its leading zero.
  let socket: String
  /// The maximum time between two signs of life; `nil` if the manager wants none.
  let watchdogTime: Duration?

  /// - Returns: `nil` if no service manager wants to know
  init?(environment: [String: String], process: pid_t = getpid()) {
    guard let socket = environment["NOTIFY_SOCKET"], !socket.isEmpty else { return nil }
    self.socket = socket
    let microseconds = environment["WATCHDOG_USEC"].flatMap(Int64.init)
    let isForThis = environment["WATCHDOG_PID"].map { pid_t($0) == process } ?? true
    watchdogTime = microseconds.flatMap { isForThis && $0 > 0 ? .microseconds($0) : nil }
  }

  /// Sends messages as one datagram. Waits at most a second if the manager does not read.
  /// - Throws: `ModelError` naming the socket and the system's reason
  func tell(_ messages: [Message]) throws(ModelError) {
    let name = Array(socket.utf8)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    guard name.first == UInt8(ascii: "/") || name.first == UInt8(ascii: "@"),
      name.count < MemoryLayout.size(ofValue: address.sun_path)
    else { throw failure("is neither a path nor an abstract name of at most 107 bytes") }
    withUnsafeMutableBytes(of: &address.sun_path) {
      $0.copyBytes(from: name)
      if $0[0] == UInt8(ascii: "@") { $0[0] = 0 }
    }
    // An abstract name has no terminating zero: its length says where it ends.
    let length = MemoryLayout.offset(of: \sockaddr_un.sun_path)! + name.count
    let descriptor = Glibc.socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw failure(String(cString: strerror(errno))) }
    defer { close(descriptor) }
    var limit = timeval(tv_sec: 1, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    let text = Array(messages.map(\.line).joined(separator: "\n").utf8)
    let sent = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        sendto(descriptor, text, text.count, Int32(MSG_NOSIGNAL), $0, socklen_t(length))
      }
    }
    guard sent == text.count else { throw failure(String(cString: strerror(errno))) }
  }

  private func failure(_ reason: String) -> ModelError {
    ModelError("NOTIFY_SOCKET", reason: "\(socket): \(reason); the service manager does not know how the server is")
  }
}
