internal import Synchronization

/// Counts the bytes of all request bodies that are held in memory, so that many unfinished ones cannot fill it.
final class BodyMemory: Sendable {
  let limit: Int
  private let used = Atomic<Int>(0)

  init(limit: Int) { self.limit = limit }

  /// Bytes of the bodies that are held now.
  var bytes: Int { used.load(ordering: .relaxed) }

  /// - Returns: whether so many more bytes fit; they are counted only then.
  fileprivate func reserve(_ count: Int) -> Bool {
    guard used.add(count, ordering: .relaxed).newValue <= limit else {
      used.subtract(count, ordering: .relaxed)
      return false
    }
    return true
  }

  fileprivate func release(_ count: Int) { used.subtract(count, ordering: .relaxed) }
}

/// A request body that was read whole. Its bytes count against the server's limit for as long as the body is held.
// @unchecked: written on the loop while the body comes, and only read after that.
public final class HTTPBody: @unchecked Sendable {
  public private(set) var bytes: [UInt8] = []
  private let memory: BodyMemory

  init(_ memory: BodyMemory) { self.memory = memory }

  deinit { memory.release(bytes.count) }

  /// - Returns: whether the server's memory for bodies had room for the bytes.
  func append(_ more: UnsafeRawBufferPointer) -> Bool {
    guard memory.reserve(more.count) else { return false }
    bytes.append(contentsOf: more)
    return true
  }
}
