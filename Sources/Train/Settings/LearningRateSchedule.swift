#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// The learning rate of each optimiser step, as transformers defines it (`get_cosine_schedule_with_warmup` and the
/// like): it rises from 0 during the warmup, then stays, or falls to 0.
public struct LearningRateSchedule: Sendable, Equatable {
  /// What follows the warmup.
  public let scheduler: Hyperparameters.Scheduler
  /// The rate at the end of the warmup.
  public let learningRate: Double
  /// Optimiser steps of the run.
  public let totalSteps: Int
  /// The number of steps in which the rate rises; rounded up.
  public let warmupSteps: Int

  /// - Parameter totalSteps: optimiser steps of the run
  public init(_ hyperparameters: Hyperparameters, totalSteps: Int) {
    scheduler = hyperparameters.scheduler
    learningRate = hyperparameters.learningRate
    self.totalSteps = totalSteps
    warmupSteps = Int((hyperparameters.effectiveWarmupRatio * Double(totalSteps)).rounded(.up))
  }

  /// - Parameter step: from 0
  public func rate(step: Int) -> Double {
    if step < warmupSteps { return learningRate * Double(step) / Double(max(1, warmupSteps)) }
    let left = max(1, totalSteps - warmupSteps)
    switch scheduler {
    case .constant: return learningRate
    case .linear: return learningRate * max(0, Double(totalSteps - step) / Double(left))
    case .cosine:
      let progress = Double(step - warmupSteps) / Double(left)
      return learningRate * max(0, 0.5 * (1 + cos(Double.pi * progress)))
    }
  }
}
