import Kernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Operations on all of the adapter's values, in slices of bounded size.
extension TrainableAdapter {
  /// The maximum values that one slice reads.
  private static let valuesPerSlice = 1 << 20

  func clearGradients(_ slices: any TrainingSlices) throws(TrainingInterruption) {
    try slices.slices(over: count, size: Self.valuesPerSlice) { range in
      gradient(range.lowerBound).update(repeating: 0, count: range.count)
    }
  }

  /// The norm of the gradients, before clipping.
  func gradientNorm(_ compute: Compute, _ slices: any TrainingSlices) throws(TrainingInterruption) -> Double {
    try sumOfSquares(gradients, compute, interruptible: true, slices).squareRoot()
  }

  /// Whether the sum of the parameters' squares is finite. It is a part of the update, so the run cannot be stopped
  /// during it.
  func isFinite(_ compute: Compute, _ slices: any TrainingSlices) throws(TrainingInterruption) -> Bool {
    try sumOfSquares(parameters, compute, interruptible: false, slices).isFinite
  }

  private func sumOfSquares(
    _ values: AlignedBuffer<Float>, _ compute: Compute, interruptible: Bool, _ slices: any TrainingSlices
  ) throws(TrainingInterruption) -> Double {
    var total = 0.0
    for first in stride(from: 0, to: count, by: Self.valuesPerSlice) {
      try slices.slice(interruptible: interruptible) {
        total += compute.sumOfSquares(values.pointer + first, count: min(Self.valuesPerSlice, count - first))
      }
    }
    return total
  }

  /// One step of AdamW, during which the run cannot be stopped.
  /// - Parameters:
  ///   - step: for A and DoRA's magnitudes
  ///   - stepOfB: for B, which has its own learning rate with LoRA+
  func update(
    _ step: AdamWStep, stepOfB: AdamWStep, _ compute: Compute, _ slices: any TrainingSlices
  ) throws(TrainingInterruption) {
    // An update reads and writes twice the memory that a sum reads.
    for ranges in updateRanges(valuesPerSlice: Self.valuesPerSlice / 2) {
      try slices.slice(interruptible: false) {
        for (range, isB) in ranges {
          let at = range.lowerBound
          compute.adamW(
            isB ? stepOfB : step, parameters: parameter(at), gradients: gradient(at), mean: mean.pointer + at,
            variance: variance.pointer + at, count: range.count)
        }
      }
    }
  }

  /// Ranges of the buffers for each slice, and whether a range belongs to B.
  private func updateRanges(valuesPerSlice: Int) -> [[(range: Range<Int>, isB: Bool)]] {
    var slices: [[(range: Range<Int>, isB: Bool)]] = [[]]
    var size = 0
    func add(_ first: Int, _ count: Int, isB: Bool) {
      for start in stride(from: first, to: first + count, by: valuesPerSlice) {
        let range = start..<min(start + valuesPerSlice, first + count)
        if size > 0, size + range.count > valuesPerSlice {
          slices.append([])
          size = 0
        }
        slices[slices.count - 1].append((range, isB))
        size += range.count
      }
    }
    for adapted in projections {
      add(adapted.a, adapted.rank * adapted.inputs, isB: false)
      add(adapted.b, adapted.outputs * adapted.rank, isB: true)
      if let magnitude = adapted.magnitude { add(magnitude, adapted.outputs, isB: false) }
    }
    return slices
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
