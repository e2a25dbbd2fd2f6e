internal import Synchronization

/// Limits the bytes of all request bodies in memory, and of what is read for them, so that many unfinished requests cannot fill
/// it.
///
/// One client gets at most half of the limit, and an eighth is only for short bodies, so that neither one client nor large
/// bodies lock the others out.
final class BodyMemory: Sendable {
  private struct Used {
    var total = 0
    var byClient: [String: Int] = [:]
  }

  private static let shortBody = 32 << 10
  private let limit: Int
  private let used = Mutex(Used())

  init(limit: Int) { self.limit = limit }

  /// Counts so many more bytes if they fit.
  /// - Parameters:
  ///   - length: bytes of the body with these
  ///   - client: the client's address
  /// - Returns: whether they fit
  fileprivate func reserve(_ count: Int, length: Int, client: String) -> Bool {
    used.withLock { used in
      let ownBytes = used.byClient[client, default: 0] + count
      guard used.total + count <= (length <= Self.shortBody ? limit : limit - limit / 8),
        length <= Self.shortBody || ownBytes <= limit / 2
      else { return false }
      used.total += count
      used.byClient[client] = ownBytes
      return true
    }
  }

  fileprivate func release(_ count: Int, client: String) {
    guard count > 0 else { return }
    used.withLock { used in
      used.total -= count
      let left = used.byClient[client, default: 0] - count
      used.byClient[client] = left > 0 ? left : nil
    }
  }
}

/// What the requests of one client may hold of the memory for bodies.
struct MemoryShare: Sendable {
  private let memory: BodyMemory
  private let client: String

  /// - Parameter client: its address
  init(_ memory: BodyMemory, client: String) {
    self.memory = memory
    self.client = client
  }

  /// Counts bytes until the result is released.
  /// - Returns: `nil` if they do not fit
  func holdIfFree(_ bytes: Int) -> HeldMemory? {
    memory.reserve(bytes, length: bytes, client: client) ? HeldMemory(memory, bytes, client: client) : nil
  }
}

/// Bytes that count against the server's limit as long as this is held.
final class HeldMemory: Sendable {
  private let memory: BodyMemory
  let bytes: Int
  private let client: String

  /// - Parameter bytes: were reserved
  fileprivate init(_ memory: BodyMemory, _ bytes: Int, client: String) {
    (self.memory, self.bytes, self.client) = (memory, bytes, client)
  }

  deinit { memory.release(bytes, client: client) }
}

/// A request's body in memory. Its bytes count against the server's limit as long as the body is held.
public final class HTTPBody: Sendable {
  private let contents = Mutex<[UInt8]>([])
  private let memory: BodyMemory
  private let client: String

  init(_ memory: BodyMemory, client: String) {
    self.memory = memory
    self.client = client
  }

  deinit { memory.release(bytes.count, client: client) }

  /// The bytes received so far.
  public var bytes: [UInt8] { contents.withLock { $0 } }

  /// Appends bytes if the server's limit allows it.
  /// - Returns: whether it does
  func append(_ more: UnsafeRawBufferPointer) -> Bool {
    contents.withLock { bytes in
      guard memory.reserve(more.count, length: bytes.count + more.count, client: client) else { return false }
      bytes.append(contentsOf: more)
      return true
    }
  }
}
