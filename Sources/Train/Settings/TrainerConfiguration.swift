public import Foundation

/// Where a run writes to and how much it may take.
public struct TrainerConfiguration: Sendable {
  /// Where the final adapter is when a run has finished.
  public enum FinalAdapter: Sendable, Equatable {
    /// It is written to the run's folder, beside the checkpoints.
    case runFolder
    /// It is that of a checkpoint: of the last step, or of the best where training was stopped early.
    case checkpoint
  }

  /// 256 MiB.
  public static let defaultActivationMemory = 256 << 20

  /// Takes checkpoints and the final adapter; `nil` keeps everything in memory.
  public var folder: URL?
  /// What the adapter's configuration names as its base.
  public var baseName: String
  /// A PEFT folder to begin with.
  public var initialAdapter: URL?
  /// Bytes for activations that are kept rather than computed again.
  public var activationMemory: Int
  /// How many of the newest checkpoints can be resumed from; older ones keep only their adapter.
  public var resumableCheckpoints: Int
  /// How many of the newest checkpoints that were due stay, beside the best and those that can be resumed from; `nil`:
  /// all.
  public var checkpointsKept: Int?
  /// Where the result is.
  public var finalAdapter: FinalAdapter
  /// Called on the run's thread before a checkpoint that is due is written: what was reported before can be made durable
  /// first.
  public var willWrite: (@Sendable () -> Void)?

  /// As the properties of the same names.
  public init(
    folder: URL? = nil, baseName: String, initialAdapter: URL? = nil,
    activationMemory: Int = TrainerConfiguration.defaultActivationMemory, resumableCheckpoints: Int = 2,
    checkpointsKept: Int? = nil, finalAdapter: FinalAdapter = .runFolder, willWrite: (@Sendable () -> Void)? = nil
  ) {
    self.folder = folder
    self.baseName = baseName
    self.initialAdapter = initialAdapter
    self.activationMemory = activationMemory
    self.resumableCheckpoints = resumableCheckpoints
    self.checkpointsKept = checkpointsKept
    self.finalAdapter = finalAdapter
    self.willWrite = willWrite
  }
}
