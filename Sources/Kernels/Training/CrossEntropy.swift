import CKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

extension Compute {
  /// How well a row of logits predicts its target.
  public struct TargetScore: Sendable {
    /// −log p(target), a natural logarithm.
    public var loss: Double
    /// Whether the target is the most probable token: the lowest id among equal logits.
    public var isBest: Bool
  }

  /// Cross-entropy of targets under rows of logits.
  ///
  /// - Parameters:
  ///   - logits: [targets.count][ld]; overwritten if there are weights
  ///   - ld: floats from one row to the next, at least `vocabulary`
  ///   - vocabulary: logits of a row
  ///   - targets: a token id for each row, in 0 ..< vocabulary
  ///   - weights: for each row, the derivative of the total loss by the row's loss. If given, a row of logits is replaced
  ///     by its gradient, weight · (softmax − one-hot)
  /// - Returns: a score for each row
  public func crossEntropy(
    _ logits: UnsafeMutablePointer<Float>, ld: Int, vocabulary: Int, targets: ArraySlice<Int32>,
    weights: ArraySlice<Float>?
  ) -> [TargetScore] {
    let expSum = kernels.forward.exp_sum
    let scale = kernels.training.scale
    let count = targets.count
    return [TargetScore](unsafeUninitializedCapacity: count) { scores, initialized in
      // Each row initialises its own element.
      pool.run(count: count, grain: 1) { range in
        for row in range {
          let values = logits + row * ld
          let target = Int(targets[targets.startIndex + row])
          var (maximum, best) = (-Float.infinity, 0)
          for i in 0..<vocabulary where values[i] > maximum { (maximum, best) = (values[i], i) }
          let logit = values[target]
          let sum = expSum(values, vocabulary, maximum, 1, weights == nil ? nil : values)
          if let weights {
            let weight = weights[weights.startIndex + row]
            scale(values, Float(Double(weight) / sum), vocabulary)
            values[target] -= weight
          }
          let loss = Double(maximum) + log(sum) - Double(logit)
          scores.initializeElement(at: row, to: TargetScore(loss: loss, isBest: best == target))
        }
      }
      initialized = count
    }
  }
}
