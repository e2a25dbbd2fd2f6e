import Synchronization

/// The memory of all grammars of a process, with one limit.
///
/// The limit is not hard: a grammar in use keeps what it needs. Above the limit, grammars give up states sooner.
public final class GrammarMemory: Sendable {
  /// The largest number of bytes.
  public let limit: Int
  private let bytes = Atomic<Int>(0)

  /// - Parameter limit: the largest number of bytes
  public init(limit: Int) { self.limit = limit }

  /// The bytes in use.
  public var used: Int { bytes.load(ordering: .relaxed) }

  /// Whether more is in use than there should be.
  public var isFull: Bool { used > limit }

  /// Counts bytes that are now in use, or with a negative number no longer.
  func add(_ count: Int) { bytes.add(count, ordering: .relaxed) }
}
