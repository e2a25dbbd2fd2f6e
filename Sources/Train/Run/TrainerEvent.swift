public import Foundation

/// What a run reports while it trains.
public enum TrainerEvent: Sendable, Equatable {
  /// An optimiser step was made.
  case metrics(StepMetrics)
  /// The validation examples were scored.
  case validation(ValidationMetrics)
  /// A checkpoint is durable in this folder, which is an adapter that PEFT and Graft load.
  case checkpoint(step: Int, folder: URL)
  /// The loss, the gradient or the adapter was not finite in step `from`. The run went back to its state after step
  /// `to`.
  case rolledBack(from: Int, to: Int, reason: String)
  /// Training ends because validation has not improved for as many times as the settings allow. The final adapter is
  /// that of `bestStep`.
  case stoppedEarly(step: Int, bestStep: Int)
  /// The final adapter is in this folder, if the run has one: see `TrainerConfiguration.FinalAdapter`.
  case finished(step: Int, folder: URL?)
  /// The run ended with an error.
  case failed(reason: String)
}

/// One optimiser step, unrounded.
public struct StepMetrics: Sendable, Equatable {
  /// The step's number, from 1.
  public var step: Int
  /// Epochs of data seen.
  public var epoch: Double
  /// Mean over the step's labelled tokens, or over its pairs.
  public var trainLoss: Double
  /// The share of labels that were the most probable token; for pairs, of pairs whose chosen answer gained more.
  public var accuracy: Double
  /// The norm of the gradients before clipping.
  public var gradNorm: Double
  /// The learning rate of A and of the magnitudes; that of B is `loraPlusRatio` times as large.
  public var learningRate: Double
  /// Tokens of the step's rows.
  public var tokens: Int
  /// Tokens of the step's rows that carry loss.
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
  /// Whether the loss is lower than that of every earlier validation.
  public var isBest: Bool
}
