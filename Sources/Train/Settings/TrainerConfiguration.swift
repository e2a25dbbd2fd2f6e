public import Foundation

/// Where a run writes to, and how much memory it may use.
public struct TrainerConfiguration: Sendable {
  /// Where the final adapter is when a run has finished.
  public enum FinalAdapter: Sendable, Equatable {
    /// It is written to the run's folder, beside the checkpoints.
    case runFolder
    /// It is that of a checkpoint: of the last step, or of the best where training was stopped early.
    case checkpoint
  }

  /// The default of `activationMemory`: 256 MiB.
  public static let defaultActivationMemory = 256 << 20

  /// The folder for checkpoints and the final adapter; `nil` keeps everything in memory.
  public var folder: URL?
  /// The base's name for adapter_config.json (`base_model_name_or_path`).
  public var baseName: String
  /// A PEFT folder that training continues from; `nil` for a new adapter.
  public var initialAdapter: URL?
  /// The maximum bytes for activations that are kept for the backward pass; what does not fit is computed again.
  public var activationMemory: Int
  /// How many of the newest checkpoints can be resumed from; older ones keep only their adapter.
  public var resumableCheckpoints: Int
  /// How many of the newest checkpoints that were due are kept, in addition to the best one and those that can be
  /// resumed from; `nil`: all.
  public var checkpointsKept: Int?
  /// Where the final adapter is when the run has finished.
  public var finalAdapter: FinalAdapter
  /// Called on the run's thread before a checkpoint is written. The caller can save what was reported
  /// earlier, so that it is never older than the checkpoint.
  public var willWrite: (@Sendable () -> Void)?

  /// - Parameters: as the properties of the same names
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
