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
  /// The final adapter is in this folder, if the run has one: see `TrainerConfiguration.FinalAdapter`.
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
  /// The rate of A and of the magnitudes; B has `loraPlusRatio` times it.
  public var learningRate: Double
  /// Tokens of the step's rows.
  public var tokens: Int
  /// Those that carry loss.
  public var lossTokens: Int
}

/// The result of a validation, unrounded.
public struct ValidationMetrics: Sendable, Equatable {
  /// Optimiser steps made before it.
  public var step: Int
  /// Mean over the labelled tokens, or over the pairs.
  public var loss: Double
  /// As `StepMetrics.accuracy`.
  public var accuracy: Double
  /// The loss is lower than that of every validation before.
  public var isBest: Bool
}
