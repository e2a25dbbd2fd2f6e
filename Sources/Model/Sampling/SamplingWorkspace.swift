import Kernels
import Synchronization

/// Buffers that sampling needs, made once and used by one thread for one token after another.
///
/// `@unchecked Sendable`: whoever draws has it to himself for that time.
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

/// Workspaces for the threads that sample at a time, made when they are first needed.
public final class SamplingWorkspaces: Sendable {
  private let vocabularySize: Int
  private let free = Mutex<[SamplingWorkspace]>([])

  /// - Parameter vocabularySize: the longest row of logits
  public init(vocabularySize: Int) { self.vocabularySize = vocabularySize }

  public func take() -> SamplingWorkspace {
    free.withLock { $0.popLast() } ?? SamplingWorkspace(vocabularySize: vocabularySize)
  }

  public func giveBack(_ workspace: SamplingWorkspace) { free.withLock { $0.append(workspace) } }
}
