public import Foundation

/// What a run reports.
public enum TrainerEvent: Sendable, Equatable {
  /// An optimiser step was made.
  case metrics(StepMetrics)
  case validation(ValidationMetrics)
  /// A checkpoint is durable in this folder, which is an adapter that PEFT and Graft load.
  case checkpoint(step: Int, folder: URL)
  /// Loss, gradient or adapter were not finite; training went back to the state after `to`.
  case rolledBack(from: Int, to: Int, reason: String)
  /// Validation has not improved for as long as was asked; the adapter is that of the best step.
  case stoppedEarly(step: Int, bestStep: Int)
  /// The final adapter is in this folder, if there is one: that of a checkpoint where they are written on a queue.
  case finished(step: Int, folder: URL?)
  case failed(reason: String)
}

/// One optimiser step, unrounded.
public struct StepMetrics: Sendable, Equatable {
  /// From 1.
  public var step: Int
  /// Epochs of data seen.
  public var epoch: Double
  /// Mean over the step's labelled tokens, or over its pairs.
  public var trainLoss: Double
  /// The share of labels that were the most probable token; for pairs, of pairs whose chosen answer gained more.
  public var accuracy: Double
  /// Before clipping.
  public var gradNorm: Double
  public var learningRate: Double
  /// Tokens of the step's rows.
  public var tokens: Int
  /// Those that carry loss.
  public var lossTokens: Int
}

public struct ValidationMetrics: Sendable, Equatable {
  public var step: Int
  public var loss: Double
  public var accuracy: Double
  public var isBest: Bool
}

/// Where a run lies and how much it may take.
public struct TrainerConfiguration: Sendable {
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
  /// Called on the checkpoints' queue before one is written: what was reported before can be made durable first.
  public var willWrite: (@Sendable () -> Void)?
  /// Checkpoints are written on a queue, so that no slice waits for a disk; called there whenever a trainer that
  /// `isWaiting` for one can go on. `nil` writes them in a slice.
  public var onWritten: (@Sendable () -> Void)?

  public init(
    folder: URL? = nil, baseName: String, initialAdapter: URL? = nil,
    activationMemory: Int = TrainerConfiguration.defaultActivationMemory, resumableCheckpoints: Int = 2,
    checkpointsKept: Int? = nil, willWrite: (@Sendable () -> Void)? = nil, onWritten: (@Sendable () -> Void)? = nil
  ) {
    self.folder = folder
    self.baseName = baseName
    self.initialAdapter = initialAdapter
    self.activationMemory = activationMemory
    self.resumableCheckpoints = resumableCheckpoints
    self.checkpointsKept = checkpointsKept
    self.willWrite = willWrite
    self.onWritten = onWritten
  }
}
