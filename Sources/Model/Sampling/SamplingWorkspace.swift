import Kernels
import Synchronization

/// The buffers of a draw, allocated once and reused for many draws.
///
/// `@unchecked Sendable`: `SamplingWorkspaces` lends it to one thread at a time.
public final class SamplingWorkspace: @unchecked Sendable {
  let logits, weights: AlignedBuffer<Float>
  let ids: AlignedBuffer<Int32>

  /// - Parameter vocabularySize: the longest row of logits
  public init(vocabularySize: Int) {
    logits = AlignedBuffer(count: vocabularySize)
    weights = AlignedBuffer(count: vocabularySize)
    ids = AlignedBuffer(count: vocabularySize)
  }
}

/// Workspaces for the threads that sample at the same time; each is allocated when it is first needed.
public final class SamplingWorkspaces: Sendable {
  private let vocabularySize: Int
  private let free = Mutex<[SamplingWorkspace]>([])

  /// - Parameter vocabularySize: the longest row of logits
  public init(vocabularySize: Int) { self.vocabularySize = vocabularySize }

  /// Calls `body` with a workspace that no other thread uses meanwhile.
  public func withWorkspace<Result>(_ body: (SamplingWorkspace) -> Result) -> Result {
    let workspace =
      free.withLock { $0.popLast() } ?? SamplingWorkspace(vocabularySize: vocabularySize)
    defer { free.withLock { $0.append(workspace) } }
    return body(workspace)
  }
}
