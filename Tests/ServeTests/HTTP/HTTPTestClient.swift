import Foundation
import Glibc

/// A response as it stood on the wire.
struct WireResponse: Equatable {
  var status: Int
  var headers: [String: String]
  var body: [UInt8]

  var text: String { String(decoding: body, as: UTF8.self) }
}

enum WireError: Error { case timedOut, closed, malformed(String) }

/// A blocking TCP client that sends exactly the bytes it is told, with a time-out on every receive.
final class HTTPTestClient {
  private(set) var descriptor: Int32
  private var buffer: [UInt8] = []

  /// - Parameter receiveBuffer: the kernel's buffer, made small to play a slow reader.
  init(port: UInt16, host: String = "127.0.0.1", timeout: Int = 30, receiveBuffer: Int32? = nil) throws {
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var list: UnsafeMutablePointer<addrinfo>?
    guard getaddrinfo(host, String(port), &hints, &list) == 0, let list else { throw WireError.closed }
    defer { freeaddrinfo(list) }
    descriptor = socket(list.pointee.ai_family, list.pointee.ai_socktype, 0)
    if var size = receiveBuffer {
      setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, socklen_t(MemoryLayout<Int32>.size))
    }
    var interval = timeval(tv_sec: timeout, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &interval, socklen_t(MemoryLayout<timeval>.size))
    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &interval, socklen_t(MemoryLayout<timeval>.size))
    guard connect(descriptor, list.pointee.ai_addr, list.pointee.ai_addrlen) == 0 else { throw WireError.closed }
  }

  deinit { close() }

  func close() {
    if descriptor >= 0 { Glibc.close(descriptor) }
    descriptor = -1
  }

  /// Closes with RST instead of FIN.
  func reset() {
    var option = linger(l_onoff: 1, l_linger: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
    close()
  }

  func shutdownSending() { shutdown(descriptor, Int32(SHUT_WR)) }

  func send(_ text: String) throws { try send(Array(text.utf8)) }

  func send(_ bytes: [UInt8]) throws {
    var sent = 0
    while sent < bytes.count {
      let flags = Int32(MSG_NOSIGNAL)
      let count = bytes[sent...].withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, flags) }
      guard count > 0 else { throw errno == EAGAIN ? WireError.timedOut : WireError.closed }
      sent += count
    }
  }

  /// Whether something has come, or the connection has ended.
  var hasInput: Bool {
    var state = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    return !buffer.isEmpty || poll(&state, 1, 0) > 0
  }

  /// Up to `count` bytes; empty at the connection's end.
  func receive(_ count: Int = 65536) throws -> [UInt8] {
    if !buffer.isEmpty {
      let taken = Array(buffer.prefix(count))
      buffer.removeFirst(taken.count)
      return taken
    }
    var bytes = [UInt8](repeating: 0, count: count)
    let received = recv(descriptor, &bytes, count, 0)
    if received < 0 {
      if errno == EAGAIN { throw WireError.timedOut }
      return []
    }
    return Array(bytes.prefix(received))
  }

  /// Everything up to the connection's end.
  func receiveAll() throws -> [UInt8] {
    var all: [UInt8] = []
    while case let bytes = try receive(), !bytes.isEmpty { all += bytes }
    return all
  }

  private func fill() throws {
    let kept = buffer
    buffer = []
    let more = try receive()
    buffer = kept + more
    if more.isEmpty { throw WireError.closed }
  }

  func receiveLine() throws -> String {
    while true {
      if let end = buffer.firstIndex(of: 10) {
        let line = buffer[..<end].dropLast(end > 0 && buffer[end - 1] == 13 ? 1 : 0)
        let text = String(decoding: line, as: UTF8.self)
        buffer.removeFirst(end + 1)
        return text
      }
      try fill()
    }
  }

  func receiveExactly(_ count: Int) throws -> [UInt8] {
    while buffer.count < count { try fill() }
    let taken = Array(buffer.prefix(count))
    buffer.removeFirst(count)
    return taken
  }

  /// Status and header fields, names in lower case.
  func receiveHead() throws -> WireResponse {
    let line = try receiveLine()
    let parts = line.split(separator: " ", maxSplits: 2)
    guard parts.count == 3, parts[0] == "HTTP/1.1", let status = Int(parts[1]) else { throw WireError.malformed(line) }
    var headers: [String: String] = [:]
    while case let field = try receiveLine(), !field.isEmpty {
      guard let colon = field.firstIndex(of: ":") else { throw WireError.malformed(field) }
      headers[field[..<colon].lowercased()] = field[field.index(after: colon)...].trimmingCharacters(in: .whitespaces)
    }
    return WireResponse(status: status, headers: headers, body: [])
  }

  /// One chunk of a chunked body; empty for the last.
  func receiveChunk() throws -> [UInt8] {
    guard let size = Int(try receiveLine(), radix: 16) else { throw WireError.malformed("chunk size") }
    let data = try receiveExactly(size)
    guard try receiveLine().isEmpty else { throw WireError.malformed("chunk end") }
    return data
  }

  /// A whole response.
  func receiveResponse(toHead: Bool = false) throws -> WireResponse {
    var response = try receiveHead()
    if toHead || response.status == 204 || response.status == 304 || response.status < 200 { return response }
    if let length = response.headers["content-length"].flatMap({ Int($0) }) {
      response.body = try receiveExactly(length)
    } else if response.headers["transfer-encoding"] == "chunked" {
      while case let chunk = try receiveChunk(), !chunk.isEmpty { response.body += chunk }
    } else {
      response.body = try receiveAll()
    }
    return response
  }

  func get(_ target: String, headers: String = "") throws -> WireResponse {
    try send("GET \(target) HTTP/1.1\r\nHost: test\r\n\(headers)\r\n")
    return try receiveResponse()
  }
}
