import Kernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Operations on all of the adapter's values, in turns of bounded size.
extension TrainableAdapter {
  /// The maximum values that one turn reads.
  private static let valuesPerTurn = 1 << 20

  func clearGradients(_ turns: any TrainingTurns) throws(TrainingInterruption) {
    try turns.turns(over: count, size: Self.valuesPerTurn) { range in
      gradient(range.lowerBound).update(repeating: 0, count: range.count)
    }
  }

  /// The norm of the gradients, before clipping.
  func gradientNorm(_ compute: Compute, _ turns: any TrainingTurns) throws(TrainingInterruption) -> Double {
    try sumOfSquares(gradients, compute, interruptible: true, turns).squareRoot()
  }

  /// Whether the sum of the parameters' squares is finite. It is a part of the update, so the run cannot be stopped
  /// during it.
  func isFinite(_ compute: Compute, _ turns: any TrainingTurns) throws(TrainingInterruption) -> Bool {
    try sumOfSquares(parameters, compute, interruptible: false, turns).isFinite
  }

  private func sumOfSquares(
    _ values: AlignedBuffer<Float>, _ compute: Compute, interruptible: Bool, _ turns: any TrainingTurns
  ) throws(TrainingInterruption) -> Double {
    var total = 0.0
    for first in stride(from: 0, to: count, by: Self.valuesPerTurn) {
      try turns.turn(interruptible: interruptible) {
        total += compute.sumOfSquares(values.pointer + first, count: min(Self.valuesPerTurn, count - first))
      }
    }
    return total
  }

  /// One step of AdamW, during which the run cannot be stopped.
  /// - Parameters:
  ///   - step: for A and DoRA's magnitudes
  ///   - stepOfB: for B, which has its own learning rate with LoRA+
  func update(
    _ step: AdamWStep, stepOfB: AdamWStep, _ compute: Compute, _ turns: any TrainingTurns
  ) throws(TrainingInterruption) {
    // An update reads and writes twice the memory that a sum reads.
    for ranges in updateRanges(valuesPerTurn: Self.valuesPerTurn / 2) {
      try turns.turn(interruptible: false) {
        for (range, isB) in ranges {
          let at = range.lowerBound
          compute.adamW(
            isB ? stepOfB : step, parameters: parameter(at), gradients: gradient(at), mean: mean.pointer + at,
            variance: variance.pointer + at, count: range.count)
        }
      }
    }
  }

  /// Ranges of the buffers for each turn, and whether a range belongs to B.
  private func updateRanges(valuesPerTurn: Int) -> [[(range: Range<Int>, isB: Bool)]] {
    var turns: [[(range: Range<Int>, isB: Bool)]] = [[]]
    var size = 0
    func add(_ first: Int, _ count: Int, isB: Bool) {
      for start in stride(from: first, to: first + count, by: valuesPerTurn) {
        let range = start..<min(start + valuesPerTurn, first + count)
        if size > 0, size + range.count > valuesPerTurn {
          turns.append([])
          size = 0
        }
        turns[turns.count - 1].append((range, isB))
        size += range.count
      }
    }
    for module in modules {
      add(module.a, module.rank * module.inputs, isB: false)
      add(module.b, module.outputs * module.rank, isB: true)
      if let magnitude = module.magnitude { add(magnitude, module.outputs, isB: false) }
    }
    return turns
  }
}

extension Hyperparameters {
  /// AdamW's settings for a step.
  /// - Parameters:
  ///   - count: steps including this one
  ///   - gradientNorm: before clipping, which is done as torch's `clip_grad_norm_` does it
  func adamW(learningRate: Double, count: Int, gradientNorm: Double) -> AdamWStep {
    AdamWStep(
      learningRate: learningRate, beta1: adamBeta1, beta2: adamBeta2, epsilon: adamEpsilon, weightDecay: weightDecay,
      count: count, gradientFactor: maxGradNorm > 0 ? min(1, maxGradNorm / (gradientNorm + 1e-6)) : 1)
  }
}
