internal import Formats
internal import Glibc

/// A bound, listening TCP socket, not yet attached to a loop.
struct ListeningSocket {
  let descriptor: Int32
  /// The port in use: the one that was asked for, or a free one for 0.
  let port: UInt16

  /// - Throws: `HTTPServerError` that names address and port.
  init(host: String, port: UInt16, backlog: Int32) throws {
    let subject = host.contains(":") ? "[\(host)] port \(port)" : "\(host) port \(port)"
    var hints = addrinfo()
    hints.ai_family = AF_UNSPEC
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV
    var list: UnsafeMutablePointer<addrinfo>?
    let status = getaddrinfo(host, String(port), &hints, &list)
    guard status == 0, let list else {
      throw HTTPServerError(subject, reason: String(cString: gai_strerror(status)))
    }
    defer { freeaddrinfo(list) }
    do {
      let descriptor = try Self.open(list.pointee, backlog: backlog)
      self.descriptor = descriptor
      self.port = Self.boundPort(descriptor) ?? port
    } catch {
      throw HTTPServerError(subject, reason: systemMessage(error.code))
    }
  }

  private struct SystemError: Error { let code: Int32 }

  private static func open(_ address: addrinfo, backlog: Int32) throws(SystemError) -> Int32 {
    let type = address.ai_socktype | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    let descriptor = socket(address.ai_family, type, address.ai_protocol)
    guard descriptor >= 0 else { throw SystemError(code: errno) }
    var yes: Int32 = 1
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
    guard bind(descriptor, address.ai_addr, address.ai_addrlen) == 0, listen(descriptor, backlog) == 0 else {
      let code = errno
      close(descriptor)
      throw SystemError(code: code)
    }
    return descriptor
  }

  private static func boundPort(_ descriptor: Int32) -> UInt16? {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let status = withUnsafeMutablePointer(to: &storage) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
    }
    guard status == 0 else { return nil }
    var service = [CChar](repeating: 0, count: Int(NI_MAXSERV))
    let found = withUnsafePointer(to: &storage) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        getnameinfo($0, length, nil, 0, &service, socklen_t(service.count), NI_NUMERICSERV)
      }
    }
    return found == 0 ? UInt16(string(fromC: service)) : nil
  }
}

/// A client's numeric address. An IPv4 address that is mapped into IPv6 becomes IPv4.
func numericAddress(_ address: UnsafePointer<sockaddr>?, length: Int32) -> String {
  var host = [CChar](repeating: 0, count: Int(NI_MAXHOST))
  guard let address,
    getnameinfo(address, socklen_t(length), &host, socklen_t(host.count), nil, 0, NI_NUMERICHOST) == 0
  else { return "unknown" }
  let numeric = string(fromC: host)
  return numeric.hasPrefix("::ffff:") && numeric.contains(".") ? String(numeric.dropFirst(7)) : numeric
}

/// Makes the kernel send written bytes at once, and probe a silent client, so that one that lost power is noticed.
func tuneConnection(_ socket: Int32) {
  let options: [(level: Int32, name: Int32, value: Int32)] = [
    (Int32(IPPROTO_TCP), TCP_NODELAY, 1), (SOL_SOCKET, SO_KEEPALIVE, 1), (Int32(IPPROTO_TCP), TCP_KEEPIDLE, 30),
    (Int32(IPPROTO_TCP), TCP_KEEPINTVL, 10), (Int32(IPPROTO_TCP), TCP_KEEPCNT, 3),
  ]
  for option in options {
    var value = option.value
    setsockopt(socket, option.level, option.name, &value, socklen_t(MemoryLayout<Int32>.size))
  }
}
